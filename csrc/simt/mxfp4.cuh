// MXFP4: E2M1 codes, eight to a 32-bit word, and one E8M0 scale for each 32 of them.
#pragma once

#include "load.cuh"

namespace gptoss::simt {

using gptoss::e8m0_to_float;

// Sign to the sign, exponent and mantissa bits to where float32 has its lowest ones: that is the value times
// 2^-126, exactly, also the subnormal 0.5.
GPTOSS_DEVICE float e2m1_to_float(uint32_t code) {
  const float tiny = __uint_as_float((code & 8u) << 28 | (code & 7u) << 22);
  return tiny * 8.507059173023462e+37f;  // 2^126
}

// A row of MXFP4 weights, k a multiple of 32.
struct Mxfp4Row {
  static constexpr int kPerWord = 8;
  const uint32_t* blocks;
  const uint8_t* scales;
  GPTOSS_DEVICE void unpack(int word, float (&w)[8]) const {
    const uint32_t codes = blocks[word];
    const float scale = e8m0_to_float(scales[word / 4]);
#pragma unroll
    for (int i = 0; i < 8; ++i) w[i] = e2m1_to_float(codes >> (4 * i)) * scale;
  }
};

}  // namespace gptoss::simt
