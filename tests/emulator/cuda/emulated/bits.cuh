// The emulator's twins of ptx/bits.cuh.
#pragma once

#include "../../core/e4m3.h"
#include "shared.cuh"

namespace gptoss::ptx {

inline uint32_t prmt(uint32_t low, uint32_t high, uint32_t selector) {
  return __byte_perm(low, high, selector);
}

template <int kTable>
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (int i = 0; i < 32; ++i) {
    const uint32_t row = (a >> i & 1) << 2 | (b >> i & 1) << 1 | (c >> i & 1);
    result |= (static_cast<uint32_t>(kTable) >> row & 1) << i;
  }
  return result;
}

inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const auto half = [&](uint32_t word) { return double{::gptoss::simt::bf16_to_float(static_cast<uint16_t>(word >> shift))}; };
    // Of a product of two bf16 and a third one: double is wide enough that its rounding is seen only where bf16's is a tie.
    const float sum = static_cast<float>(half(a) * half(b) + half(c));
    result |= static_cast<uint32_t>(::gptoss::simt::float_to_bf16(sum)) << shift;
  }
  return result;
}

inline uint32_t cvt_bf16x2(float low, float high) {
  const auto half = [](float value) -> uint32_t { return value != value ? 0x7fff : ::gptoss::simt::float_to_bf16(value); };
  return half(low) | half(high) << 16;
}

inline float ex2(float x) {
  const float result = exp2f(x);
  return result < 0x1p-126f ? 0.0f : result;
}

inline uint16_t cvt_e4m3x2(float low, float high) {
  return static_cast<uint16_t>(::emulator::to_e4m3(low) | ::emulator::to_e4m3(high) << 8);
}

}  // namespace gptoss::ptx
