// A number as an unevaluated sum of two floats: 46 bits where there is no double, or where the order of float32
// operations decides a result. Needs arithmetic that rounds each operation by itself: no contraction, no fast-math.
#pragma once

#if defined(__METAL_VERSION__)
#include <metal_stdlib>
#endif

#include "language.h"

namespace gptoss {

#if defined(__METAL_VERSION__)
using metal::fma;
#else
using std::fma;
#endif

struct Pair {
  float hi, lo;
};

GPTOSS_HD inline Pair two_sum(float x, float y) {
  const float s = x + y, v = s - x;
  return {s, (x - (s - v)) + (y - v)};
}
GPTOSS_HD inline Pair add_any(Pair x, Pair y) {
  const Pair s = two_sum(x.hi, y.hi);
  return {s.hi, s.lo + (x.lo + y.lo)};
}
GPTOSS_HD inline Pair add_any(Pair x, float y) {
  const Pair s = two_sum(x.hi, y);
  return {s.hi, s.lo + x.lo};
}
GPTOSS_HD inline Pair mul(Pair x, float y) {
  const float s = x.hi * y;
  return {s, fma(x.lo, y, fma(x.hi, y, -s))};
}
GPTOSS_HD inline Pair mul(Pair x, Pair y) {
  const float s = x.hi * y.hi;
  return {s, fma(x.hi, y.lo, fma(x.lo, y.hi, fma(x.hi, y.hi, -s)))};
}

}  // namespace gptoss
