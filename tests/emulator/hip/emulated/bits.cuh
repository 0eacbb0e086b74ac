// The emulator's twins of amdgcn/bits.cuh.
#pragma once

namespace gptoss::amdgcn {

inline uint32_t permute_bytes(uint32_t high, uint32_t low, uint32_t selector) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> (8 * i) & 0xff;
    uint32_t byte = 0xff;  // 13 and above
    if (choice < 8) byte = static_cast<uint32_t>(bytes >> (8 * choice)) & 0xff;
    if (choice >= 8 && choice < 12) byte = bytes >> (16 * (choice - 8) + 15) & 1 ? 0xff : 0;
    if (choice == 12) byte = 0;
    result |= byte << (8 * i);
  }
  return result;
}

// The number of bits seeeemmm; all ones but the sign is not a number.
inline float fp8_value(uint32_t bits) {
  const int exponent = static_cast<int>(bits >> 3 & 15), mantissa = static_cast<int>(bits & 7);
  if ((bits & 127) == 127) return NAN;
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9) : std::ldexp(8.0f + mantissa, exponent - 10);
  return bits & 128 ? -size : size;
}
// The nearest of all, ties to the even one.
inline uint32_t to_fp8(float x) {
  uint32_t best = 0;
  for (uint32_t bits = 1; bits < 127; ++bits) {
    const float now = std::abs(fp8_value(bits) - std::abs(x)), before = std::abs(fp8_value(best) - std::abs(x));
    if (now < before || (now == before && bits % 2 == 0)) best = bits;
  }
  return x < 0 ? best | 128 : best;
}
inline uint32_t pack_fp8(float x0, float x1, float x2, float x3) {
  return to_fp8(x0) | to_fp8(x1) << 8 | to_fp8(x2) << 16 | to_fp8(x3) << 24;
}
template <int kByte>
float unpack_fp8(uint32_t word) {
  return fp8_value(word >> (8 * kByte) & 255);
}

}  // namespace gptoss::amdgcn
