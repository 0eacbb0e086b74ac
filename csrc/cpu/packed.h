// Packed activations read back, for what is not a product.
#pragma once

#include <cstring>

#include "../numeric.h"
#include "kernels.h"

namespace gptoss::cpu {

// Place i: even places come before odd ones in each group of 32; or, for tiles, each group is so many bf16 terms.
inline float packed_at(const Kernels& kernels, const float* packed, int i, bool round) {
  if (!kernels.packs_terms(round)) return packed[i / 32 * 32 + i % 2 * 16 + i % 32 / 2];
  const int terms = round ? 1 : 3;
  float sum = 0;
  for (int term = 0; term < terms; ++term) {
    uint16_t bits;
    std::memcpy(&bits, reinterpret_cast<const uint16_t*>(packed) + (i / 32 * terms + term) * 32 + i % 32, sizeof bits);
    sum += bf16_to_float(bits);
  }
  return sum;
}

}  // namespace gptoss::cpu
