// The emulator's twins of ptx/bits.cuh.
#pragma once

namespace gptoss::ptx {

inline uint32_t prmt(uint32_t low, uint32_t high, uint32_t selector) { return __byte_perm(low, high, selector); }

template <int kTable>
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t row = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
    result |= (static_cast<uint32_t>(kTable) >> row & 1) << i;
  }
  return result;
}

}  // namespace gptoss::ptx
