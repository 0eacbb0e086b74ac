// The emulator's twins of amdgcn/bits.cuh.
#pragma once

#include "../../core/e4m3.h"

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

inline uint32_t pack_fp8(float x0, float x1, float x2, float x3) {
  using ::emulator::to_e4m3;
  return to_e4m3(x0) | to_e4m3(x1) << 8 | to_e4m3(x2) << 16 | to_e4m3(x3) << 24;
}
template <int kByte>
float unpack_fp8(uint32_t word) {
  return ::emulator::e4m3_value(word >> (8 * kByte) & 255);
}

}  // namespace gptoss::amdgcn
