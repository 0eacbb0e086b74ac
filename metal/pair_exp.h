// exp and log of a Pair: what float64 does elsewhere, to about 44 bits.
#pragma once

#include "pair.h"
#include "port.h"

namespace gptoss {

inline Pair shuffle_xor(Pair value, ushort mask) {
  return {shuffle_xor(value.hi, mask), shuffle_xor(value.lo, mask)};
}

// 1 / k! for k = 0 to 7, and from 8 on as plain floats: these terms are below 2^-27 of the sum.
constant constexpr float kInverseFactorial[8][2] = {
    {1.0f, 0.0f},
    {1.0f, 0.0f},
    {0.5f, 0.0f},
    {0.16666667163372039795f, -4.9670538793122887e-09f},
    {0.04166666790843009949f, -1.2417634698280722e-09f},
    {0.00833333376795053482f, -4.34617203337595e-10f},
    {0.0013888889225199819f, -3.3631094437103215e-11f},
    {0.00019841270113829523f, -2.725596874933456e-12f},
};

// For x from -87 to 0; 0 below. x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 in three parts, of which n times the first is
// exact. Taylor's series to r^13.
inline Pair exp_pair(Pair x) {
  if (!(x.hi > -87.0f)) return {0.0f, 0.0f};
  const float n = rint(x.hi * 1.44269504f);
  Pair r = add_any(two_sum(x.hi, n * -0.693145751953125f), x.lo);
  r = add_any(r, mul(Pair{-1.428606765330187e-06f, -5.497923e-14f}, n));
  float tail = 1.6059044e-10f;  // 1 / 13!
  tail = fma(tail, r.hi, 2.0876757e-09f);
  tail = fma(tail, r.hi, 2.5052108e-08f);
  tail = fma(tail, r.hi, 2.7557319e-07f);
  tail = fma(tail, r.hi, 2.7557319e-06f);
  tail = fma(tail, r.hi, 2.4801587e-05f);
  Pair sum = {tail, 0.0f};
  for (int k = 7; k >= 0; --k)
    sum = add_any(mul(sum, r), Pair{kInverseFactorial[k][0], kInverseFactorial[k][1]});
  const float scale = float_from_bits(static_cast<uint32_t>(static_cast<int>(n) + 127) << 23);
  return {sum.hi * scale, sum.lo * scale};
}

// For x >= 1: the float's logarithm, and one step of Newton's from there.
inline Pair log_pair(Pair x) {
  const float y = logf(x.hi);
  const Pair rest = add_any(mul(x, exp_pair(Pair{-y, 0.0f})), -1.0f);  // x / exp(y) - 1
  const float z = rest.hi + rest.lo;
  return add_any(two_sum(y, rest.hi), rest.lo - 0.5f * z * z);
}

}  // namespace gptoss
