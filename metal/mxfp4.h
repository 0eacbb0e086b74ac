// MXFP4: E2M1 codes, eight to a 32-bit word, and one E8M0 scale for each 32 of them.
#pragma once

#include "load.h"

namespace gptoss {

// 2^(scale - 127). Float32 subnormals count as 0 on these GPUs, so scale 0, 2^-127, counts as 2^-126 times a half.
inline float e8m0_to_float(uint8_t scale) {
  return float_from_bits(static_cast<uint32_t>(scale == 0 ? 1 : scale) << 23) * (scale == 0 ? 0.5f : 1.0f);
}

// Sign to the sign, exponent and mantissa bits to where a half has its lowest ones: that is the value times 2^-14,
// exactly, also the subnormal 0.5, which a half keeps where a float would not.
inline float e2m1_to_float(uint32_t code) {
  const uint16_t tiny = static_cast<uint16_t>((code & 8u) << 12 | (code & 7u) << 9);
  return static_cast<float>(as_type<half>(tiny)) * 16384.0f;  // 2^14
}

// A row of MXFP4 weights, k a multiple of 32.
struct Mxfp4Row {
  static constant constexpr int kPerWord = 8;
  device const uint32_t* blocks;
  device const uint8_t* scales;
  void unpack(int word, thread float* w) const {
    const uint32_t codes = blocks[word];
    const float scale = e8m0_to_float(scales[word / 4]);
    for (int i = 0; i < 8; ++i) w[i] = e2m1_to_float(codes >> (4 * i)) * scale;
  }
};

}  // namespace gptoss
