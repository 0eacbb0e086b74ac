// Instructions on the bytes of a register, one function each.
#pragma once

#include "simt/port.cuh"

#define GPTOSS_AMDGCN __device__ __forceinline__

#if defined(GPTOSS_EMULATOR)
#include <emulated/bits.cuh>
#else
namespace gptoss::amdgcn {

// v_perm_b32: byte i of the result is the one that byte i of `selector` names: 0 to 3 of `low`, 4 to 7 of
// `high`.
GPTOSS_AMDGCN uint32_t permute_bytes(uint32_t high, uint32_t low, uint32_t selector) {
  return __builtin_amdgcn_perm(high, low, selector);
}

#if defined(__gfx950__)
// v_cvt_pk_fp8_f32 twice: e4m3 of four numbers, to nearest, ties to even; the first in the lowest byte.
GPTOSS_AMDGCN uint32_t pack_fp8(float x0, float x1, float x2, float x3) {
  const int low = __builtin_amdgcn_cvt_pk_fp8_f32(x0, x1, 0, false);
  return static_cast<uint32_t>(__builtin_amdgcn_cvt_pk_fp8_f32(x2, x3, low, true));
}
// v_cvt_f32_fp8, of byte kByte.
template <int kByte>
GPTOSS_AMDGCN float unpack_fp8(uint32_t word) {
  return __builtin_amdgcn_cvt_f32_fp8(static_cast<int>(word), kByte);
}
#endif

}  // namespace gptoss::amdgcn
#endif
