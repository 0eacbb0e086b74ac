// E4M3, as the cards of both vendors have it: sign, four bits of exponent, three of mantissa; 448 is the largest number,
// and only the magnitude 127 is none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace emulator {

inline float e4m3_value(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 3 & 15), mantissa = static_cast<int>(bits & 7);
  if ((bits & 127) == 127) return NAN;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9) : std::ldexp(8.0f + mantissa, exponent - 10);
  return bits & 128 ? -size : size;
}

// The nearest one, ties to the even one; the largest for whatever is larger.
inline uint32_t to_e4m3(float value) {
  constexpr uint32_t kNone = 0x7f, kLargest = 0x7e;
  const uint32_t sign = std::signbit(value) ? 0x80 : 0;
  const float size = std::fabs(value);
  if (std::isnan(value)) return sign | kNone;
  if (size >= 448) return sign | kLargest;
  // In units of the last of the four digits, which is 2^-9 for all below 2^-6. nearbyint() takes ties to even, and a carry
  // goes from the mantissa to the exponent.
  const int exponent = size > 0 ? std::max(std::ilogb(size), -6) : -6;
  const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, 3 - exponent)));
  return sign | (static_cast<uint32_t>(exponent + 6) * 8 + units);
}

}  // namespace emulator
