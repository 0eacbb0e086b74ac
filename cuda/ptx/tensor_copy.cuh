// cp.async.bulk.tensor (sm_90): one thread starts the copy of a box of a tensor, swizzled on the way.
//
// The tensor is described by a CUtensorMap that the host made (see ../tensor_map.h), passed to the kernel as a
// `const __grid_constant__ CUtensorMap` parameter.
#pragma once

#include <cuda.h>

#include "mbarrier.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/tensor_copy.cuh>
#else
namespace gptoss::ptx {

// The box at column x, row y. What lies outside the tensor arrives as zeros and counts as bytes all the same.
GPTOSS_PTX void tensor_load_2d(void* shared, const CUtensorMap* map, int x, int y, uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          shared_address(shared)),
      "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier))
      : "memory");
}

GPTOSS_PTX void prefetch_tensor_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

}  // namespace gptoss::ptx
#endif
