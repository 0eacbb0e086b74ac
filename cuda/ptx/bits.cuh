// Instructions on words that C++ has no word for.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/bits.cuh>
#else
namespace gptoss::ptx {

// Four of the eight bytes of high:low, one for each nibble of the selector (bit 3 of it repeats the byte's
// sign).
GPTOSS_PTX uint32_t prmt(uint32_t low, uint32_t high, uint32_t selector) {
  uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(low), "r"(high), "r"(selector));
  return result;
}

// Any function of three bits, bitwise: kTable is that function of 0xf0, 0xcc and 0xaa.
template <int kTable>
GPTOSS_PTX uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(kTable));
  return result;
}

// a b + c of two bf16 in each word, rounded once; subnormal numbers are kept (sm_80).
GPTOSS_PTX uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t result;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
  return result;
}

// The nearest numbers of bf16, ties to even, in the low and the high half (sm_80).
GPTOSS_PTX uint32_t cvt_bf16x2(float low, float high) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

// 2^x within 2^-22 of it; what would be less than 2^-126 is 0. One instruction, of exp2f()'s four.
GPTOSS_PTX float ex2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The nearest numbers of e4m3, ties to even, in the low and the high byte; what is larger than 448, the largest, becomes
// 448 (sm_89).
GPTOSS_PTX uint16_t cvt_e4m3x2(float low, float high) {
  uint16_t result;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(result) : "f"(high), "f"(low));
  return result;
}

}  // namespace gptoss::ptx
#endif
