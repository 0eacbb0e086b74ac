// Instructions on the bytes of a register, one function each.
#pragma once

#include "simt/port.cuh"

#define GPTOSS_AMDGCN __device__ __forceinline__

#if defined(GPTOSS_EMULATOR)
#include <emulated/bits.cuh>
#else
namespace gptoss::amdgcn {

// v_perm_b32: byte i of the result is the one that byte i of `selector` names: 0 to 3 of `low`, 4 to 7 of `high`.
GPTOSS_AMDGCN uint32_t permute_bytes(uint32_t high, uint32_t low, uint32_t selector) {
  return __builtin_amdgcn_perm(high, low, selector);
}

}  // namespace gptoss::amdgcn
#endif
