// Sampling as exact arithmetic, so that every device, and a numpy twin, draws the same token.
//
// The next token of a sequence is   argmax over allowed v of  logit[v] / temperature + gumbel(v),
// lowest id on ties; a temperature below kGreedyBelow is argmax of logit[v]. No token, -1, if a logit is not a number
// or the largest is infinite. This samples from softmax(logit / temperature) and
// needs no running state: gumbel(v) is made from a hash of (seed, sample index, position, v).
//
// top_p keeps the most probable tokens, ties by lowest id, until their mass reaches top_p: token v is allowed
// iff the mass of the tokens before it in that order is below top_p of the whole. Masses are integers
// (probability relative to the largest, times 2^32, rounded down), so their sum has no order.
//
// All floating point here is float32, one rounding per written operation: compile without contraction
// (-ffp-contract=off) and without fast-math. On a GPU use the __fmul_rn family.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__) || defined(__HIPCC__)
#define GPTOSS_HD __host__ __device__
#else
#define GPTOSS_HD
#endif

namespace gptoss {

// How one sequence's next token is drawn; plain data, also in device memory.
struct SampleParams {
  int32_t row;          // which row of logits
  float temperature;    // >= 0; 0 is greedy
  float top_p;          // (0, 1]; 1 keeps every token
  uint32_t seed[2];     // low, high
  uint32_t index;       // which of n samples of one prompt
};

namespace sampling {

// Temperatures below this are greedy: logit / temperature could overflow.
constexpr float kGreedyBelow = 1e-5f;

// Mixer of the "murmur3" finalizer form: every input bit reaches every output bit.
GPTOSS_HD inline uint32_t mix(uint32_t h) {
  h ^= h >> 16;
  h *= 0x85ebca6bu;
  h ^= h >> 13;
  h *= 0xc2b2ae35u;
  h ^= h >> 16;
  return h;
}

// The part of the hash that all tokens of one draw share. `position` is that of the token being drawn.
GPTOSS_HD inline uint32_t hash_draw(uint32_t seed_low, uint32_t seed_high, uint32_t index, uint32_t position) {
  uint32_t h = mix(seed_low ^ 0x9e3779b9u);
  h = mix(h ^ seed_high);
  h = mix(h ^ (index * 0x9e3779b1u + 0x7f4a7c15u));
  return mix(h ^ (position * 0x85ebca77u + 0x165667b1u));
}

GPTOSS_HD inline uint32_t hash_token(uint32_t draw, uint32_t token) {
  return mix(mix(draw + token * 0x9e3779b1u) ^ (draw * 0xc2b2ae3du + token));
}

GPTOSS_HD inline float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

GPTOSS_HD inline uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// log(x) for positive normal x: x = m 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m-1)/(m+1),
// as an odd polynomial in s. Absolute error below 2e-7 near 1, relative below 3e-7 elsewhere.
GPTOSS_HD inline float log_exact(float x) {
  const uint32_t bits = as_bits(x);
  const uint32_t shifted = bits - 0x3f3504f3u;  // sqrt(1/2)
  const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
  const float m = as_float(bits - (static_cast<uint32_t>(exponent) << 23));
  const float s = (m - 1.0f) / (m + 1.0f);
  const float z = s * s;
  float p = 0.11111111f;            // 1/9
  p = p * z + 0.14285715f;          // 1/7
  p = p * z + 0.2f;                 // 1/5
  p = p * z + 0.33333334f;          // 1/3
  const float series = s + s * (z * p);
  return static_cast<float>(exponent) * 0.6931472f + (series + series);
}

// exp(x) for x <= 0; 0 below -87. 2^n times a degree-6 polynomial on [-ln2/2, ln2/2].
GPTOSS_HD inline float exp_exact(float x) {
  if (!(x > -87.0f)) return 0.0f;
  const float n = static_cast<float>(static_cast<int32_t>(x * 1.442695f - 0.5f));  // nearest: x <= 0 truncates up
  const float r = (x - n * 0.69314575f) - n * 1.4286068e-06f;
  float p = 0.0013888889f;
  p = p * r + 0.008333334f;
  p = p * r + 0.041666668f;
  p = p * r + 0.16666667f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * as_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

// -log(E), E = -log(1 - w) exponential, w = (hash + 1/2) 2^-32. Small w, which are the large values that win,
// keep their full relative precision: -log(1 - w) = 2 atanh(w / (2 - w)) there, 1 - w exactly elsewhere.
GPTOSS_HD inline float gumbel(uint32_t hash) {
  float exponential;
  if (hash < 0x80000000u) {
    const float w = (static_cast<float>(hash) + 0.5f) * 2.3283064e-10f;
    const float s = w / (2.0f - w);
    const float z = s * s;
    float p = 0.06666667f;          // 1/15
    p = p * z + 0.07692308f;        // 1/13
    p = p * z + 0.09090909f;        // 1/11
    p = p * z + 0.11111111f;
    p = p * z + 0.14285715f;
    p = p * z + 0.2f;
    p = p * z + 0.33333334f;
    const float series = s + s * (z * p);
    exponential = series + series;
  } else {
    exponential = -log_exact((static_cast<float>(~hash) + 0.5f) * 2.3283064e-10f);
  }
  return -log_exact(exponential);
}

// Probability relative to the most probable token as an integer: 2^32 for it, 0 below about 2^-32.
GPTOSS_HD inline uint64_t mass(float scaled_logit, float scaled_max) {
  return static_cast<uint64_t>(exp_exact(scaled_logit - scaled_max) * 4294967296.0f);
}

// A token is in the nucleus iff the mass before it is below this. Integers only: devices without float64 agree.
GPTOSS_HD inline uint64_t nucleus_limit(uint64_t total, float top_p) {
  const uint64_t p = static_cast<uint64_t>(top_p * 16777216.0f);  // top_p in units of 2^-24
  const uint64_t limit = (total >> 24) * p + (((total & 0xffffffu) * p) >> 24);
  return limit > 0 ? limit : 1;  // the most probable token is always kept
}

// The order of floats as an order of unsigned integers.
GPTOSS_HD inline uint32_t ordered(float value) {
  const uint32_t bits = as_bits(value + 0.0f);  // -0 and 0 are one value
  return (bits & 0x80000000u) ? ~bits : bits | 0x80000000u;
}

}  // namespace sampling
}  // namespace gptoss
