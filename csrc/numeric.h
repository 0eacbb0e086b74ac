// The number formats of the checkpoint, as scalar code that every device and test may include, and every GPU language.
#pragma once

#include "language.h"

namespace gptoss {

GPTOSS_HD inline float bf16_to_float(uint16_t bits) { return float_from_bits(static_cast<uint32_t>(bits) << 16); }

// Round to nearest, ties to even; NaN stays NaN (a carry out of its mantissa would make it infinite).
GPTOSS_HD inline uint16_t float_to_bf16(float value) {
  const uint32_t bits = bits_from_float(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x0040u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

GPTOSS_HD inline float round_to_bf16(float value) { return bf16_to_float(float_to_bf16(value)); }

#if !defined(__METAL_VERSION__)  // whose GPUs take a subnormal for 0: see metal/mxfp4.h
// E8M0: 2^(scale - 127). Scale 0 is 2^-127, a float32 subnormal, so a bare shift would give 0.
GPTOSS_HD inline float e8m0_to_float(uint8_t scale) {
  return float_from_bits(scale == 0 ? 0x00400000u : static_cast<uint32_t>(scale) << 23);
}
#endif

// E2M1: sign in bit 3, magnitude index in bits 0-2; code 8 is -0.
GPTOSS_CONSTANT float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

GPTOSS_CONSTANT int kMxfp4Group = 32;       // weights that share one scale
GPTOSS_CONSTANT int kMxfp4GroupBytes = 16;  // element 2b in the low nibble of byte b, 2b+1 in the high one

}  // namespace gptoss
