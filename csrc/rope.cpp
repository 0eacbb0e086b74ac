// The table of rotary frequencies (YaRN), equal bit for bit to the one the published models were trained and
// are served with.
//
// One float32 ulp of a frequency near 0.7 is 6e-3 rad at position 100,000, so the last bit is visible in the
// logits. What decides it is float32 arithmetic in the order written here, and the power theta^(2j/D): the
// reference table comes from a vector library, SLEEF, whose powf (the algorithm of xpowf, Boost licence) is
// good to 1 ulp but not always correctly rounded; pairs beyond the last whole vector of 32 come from the C
// library's powf. tests/test_reference.py holds the published table.

#include <algorithm>
#include <cmath>

#include "model.h"
#include "pair.h"

namespace gptoss {
namespace {

// More of what the power needs; see pair.h.
Pair add_smaller(Pair x, Pair y) {  // |x| >= |y|
  const float s = x.hi + y.hi;
  return {s, (((x.hi - s) + y.hi) + x.lo) + y.lo};
}
Pair square(Pair x) {
  const float s = x.hi * x.hi;
  return {s, std::fma(x.hi + x.hi, x.lo, std::fma(x.hi, x.hi, -s))};
}
Pair divide(Pair n, Pair d) {
  const float t = 1.0f / d.hi, s = n.hi * t, u = std::fma(t, n.hi, -s);
  const float v = std::fma(-d.lo, t, std::fma(-d.hi, t, 1.0f));
  return {s, std::fma(s, v, std::fma(n.lo, t, u))};
}

// log x as a pair: 2 atanh((m - 1) / (m + 1)) + e ln 2, x = m 2^e.
Pair log_pair(float x) {
  int e;
  float m = std::frexp(x, &e);
  if (m < 0.75f) {
    m *= 2;
    e -= 1;
  }
  const Pair a = divide(two_sum(-1.0f, m), two_sum(1.0f, m)), a2 = square(a);
  float t = 0.2403203547f;
  t = std::fma(t, a2.hi, 0.2851126790f);
  t = std::fma(t, a2.hi, 0.4000079930f);
  Pair s = mul(Pair{0.6931471825f, -1.904654323e-09f}, static_cast<float>(e));
  s = add_smaller(s, Pair{2 * a.hi, 2 * a.lo});
  return add_smaller(s, mul(mul(a2, a), add_any(mul(a2, t), Pair{0.6666666269f, 3.691838613e-09f})));
}

float exp_pair(Pair d) {
  const float q = std::nearbyint((d.hi + d.lo) * 1.4426950216f);
  Pair s = add_any(d, q * -0.6931457520f);
  s = add_any(s, q * -1.428606765e-06f);
  const float z = s.hi + s.lo;
  s = {z, (s.hi - z) + s.lo};
  float u = 0.001363246469f;
  u = std::fma(u, s.hi, 0.008365969174f);
  u = std::fma(u, s.hi, 0.04167108238f);
  u = std::fma(u, s.hi, 0.1666655242f);
  u = std::fma(u, s.hi, 0.4999998510f);
  const Pair r = add_smaller(s, mul(square(s), u));
  const float one = 1.0f + r.hi;
  return std::ldexp(one + (((1.0f - one) + r.hi) + r.lo), static_cast<int>(q));
}

float vector_pow(float x, float y) { return y == 0 ? 1.0f : exp_pair(mul(log_pair(x), y)); }

}  // namespace

Rope make_rope(const Config& config) {
  const RopeScaling& scaling = config.rope_scaling;
  const int pairs = config.head_dim / 2;
  const int in_vectors = pairs / 32 * 32;
  const float theta = static_cast<float>(config.rope_theta);
  Rope rope;
  rope.inv_freq.resize(static_cast<size_t>(pairs));

  // The pair whose wavelength fits `rotations` times into the original context.
  const auto bound = [&](double rotations) {
    return config.head_dim * std::log(scaling.original_max_position_embeddings / (rotations * 2 * M_PI)) /
           (2 * std::log(config.rope_theta));
  };
  double low = bound(scaling.beta_fast), high = bound(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, config.head_dim - 1.0);
  if (low == high) high += 0.001;

  for (int j = 0; j < pairs; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(config.head_dim);
    const float power = j < in_vectors ? vector_pow(theta, exponent) : std::pow(theta, exponent);
    if (!scaling.yarn) {
      rope.inv_freq[j] = 1.0f / power;
      continue;
    }
    const float ramp = (static_cast<float>(j) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float keep = 1.0f - std::min(std::max(ramp, 0.0f), 1.0f);
    rope.inv_freq[j] = (1.0f / (static_cast<float>(scaling.factor) * power)) * (1.0f - keep) + (1.0f / power) * keep;
  }
  if (scaling.yarn && scaling.factor > 1)
    rope.concentration = 0.1 * std::log(scaling.factor) + 1.0;
  return rope;
}

}  // namespace gptoss
