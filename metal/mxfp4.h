// MXFP4: E2M1 codes, eight to a 32-bit word, and one E8M0 scale for each 32 of them.
#pragma once

#include "load.h"

namespace gptoss {

// Sign to the sign, exponent and mantissa bits to where a half has its lowest ones: that is the value times 2^-14,
// exactly, also the subnormal 0.5, which a half keeps where a float would not.
inline float e2m1_to_small_float(uint32_t code) {
  const uint16_t tiny = static_cast<uint16_t>((code & 8u) << 12 | (code & 7u) << 9);
  return static_cast<float>(as_type<half>(tiny));
}

// A row of MXFP4 weights, k a multiple of 32.
struct Mxfp4Row {
  static constant constexpr int kPerWord = 8;
  device const uint32_t* blocks;
  device const uint8_t* scales;
  void unpack(int word, thread float* w) const {
    const uint32_t codes = blocks[word];
    const uint32_t scale = scales[word / 4];
    // 2^14 and 2^(scale - 127) in two factors of which none is subnormal, as 2^-127 is: that counts as 0 on these GPUs.
    const float first = scale == 0 ? 8192.0f : 16384.0f, second = float_from_bits(max(scale, 1u) << 23);
    for (int i = 0; i < 8; ++i) w[i] = e2m1_to_small_float(codes >> (4 * i)) * first * second;
  }
};

}  // namespace gptoss
