// The numbers of block-scaled products, of mma.sync and of tcgen05.
#pragma once

#include "../core/e4m3.h"

namespace emulator {

inline float e2m1_value(uint32_t code) {
  constexpr float kMagnitude[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return code & 8 ? -kMagnitude[code & 7] : kMagnitude[code & 7];
}

// 2^(a - 127) 2^(b - 127) sum; 255 is not a number.
inline float scaled(float sum, uint32_t a, uint32_t b) {
  a &= 255, b &= 255;
  return a == 255 || b == 255 ? NAN : std::ldexp(sum, static_cast<int>(a + b) - 254);
}

}  // namespace emulator
