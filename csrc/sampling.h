// Sampling as exact arithmetic, so that every device, and a numpy twin, draws the same token.
//
// One row of logits goes through, in this order:
//   1. edits: penalties and bias of single tokens (see edited());
//   2. the mask of allowed tokens;
//   3. scaled = logit / temperature; with a temperature below kGreedyBelow, or where the largest of these overflows, the
//      draw is the argmax of the logit, lowest id on ties;
//   4. min_p, top_k, top_p, each on what the one before it left, most probable first, ties by lowest id;
//   5. the draw: argmax over what is left of  scaled[v] + gumbel(v),  lowest id on ties.
// Step 5 samples from softmax(scaled) and needs no running state: gumbel(v) is made from a hash of (seed, sample
// index, position, v).
//
// Probabilities are integers: mass(v) = exp(scaled[v] - max) times 2^32, rounded down, so their sum has no order.
//   min_p keeps v iff mass(v) >= min_p times the largest mass, 2^32;
//   top_k keeps the first k;
//   top_p keeps v iff the mass of the tokens before it is below top_p of the whole.
//
// All floating point here is float32, one rounding per written operation: compile without contraction
// (-ffp-contract=off) and without fast-math.
#pragma once

#include "language.h"

namespace gptoss {

// How one sequence's next token is drawn; plain data, also in device memory.
struct SampleParams {
  int32_t row;               // which row of logits
  float temperature;         // 0 is greedy
  float top_p;               // (0, 1]; 1 keeps every token
  float min_p;               // [0, 1]; 0 keeps every token
  int32_t top_k;             // 0 keeps every token
  float repetition_penalty;  // 1: none
  float presence_penalty;    // 0: none
  float frequency_penalty;   // 0: none
  uint32_t seed[2];          // low, high
  uint32_t index;            // which of n samples of one prompt
  int32_t first_edit;        // edits [first_edit, last_edit) of the step
  int32_t last_edit;
  int32_t mask;              // which mask of the step; -1: none
  int32_t logprobs;          // -1: none; else the log probability of the drawn token, and that many of the best
};

// What one token's logit is changed by. At most one edit per token and sample.
struct TokenEdit {
  int32_t token;
  int32_t seen;   // 1 if it stands in the prompt or the completion
  int32_t count;  // how often it stands in the completion
  float bias;
  float original;  // written by the stage: the logit before the edit
};

namespace sampling {

// Temperatures below this are greedy: logit / temperature could overflow.
GPTOSS_CONSTANT float kGreedyBelow = 1e-5f;

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

GPTOSS_HD inline float as_float(uint32_t bits) { return float_from_bits(bits); }
GPTOSS_HD inline uint32_t as_bits(float value) { return bits_from_float(value); }

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

// The logit of an edited token: repetition divides or multiplies what was seen at all, frequency and presence
// subtract for what was generated, bias is added last.
GPTOSS_HD inline float edited(float logit, TokenEdit edit, SampleParams p) {
  if (edit.seen) logit = logit > 0.0f ? logit / p.repetition_penalty : logit * p.repetition_penalty;
  logit = logit - p.frequency_penalty * static_cast<float>(edit.count);
  if (edit.count > 0) logit = logit - p.presence_penalty;
  return logit + edit.bias;
}

// min_p in units of the largest mass.
GPTOSS_HD inline uint64_t least_mass(float min_p) { return static_cast<uint64_t>(min_p * 16777216.0f) << 8; }

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

// Ascending keys: largest value first, lowest id on ties. Not-a-number has a place, too: a choice is a token.
GPTOSS_HD inline uint64_t sort_key(float value, uint32_t id) {
  return static_cast<uint64_t>(~ordered(value)) << 32 | id;
}

GPTOSS_HD inline float unordered(uint32_t order) { return as_float((order & 0x80000000u) ? order ^ 0x80000000u : ~order); }

GPTOSS_HD inline bool is_finite(float value) { return (as_bits(value) & 0x7f800000u) != 0x7f800000u; }

}  // namespace sampling
}  // namespace gptoss
