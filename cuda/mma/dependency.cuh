// What a kernel with matrix cores may count on, by the architecture that it is compiled for.
#pragma once

#include "ptx/grid_dependency.cuh"

// Before sm_80 there is no bf16 mma.sync: kernels are then empty, and the host does not launch them.
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define GPTOSS_HAS_MMA 1
#endif

namespace gptoss::cuda {

// From here on a kernel may read what its predecessors wrote, and write; and the next one may begin, up to its own
// wait. Before sm_90 kernels begin one after the other.
GPTOSS_DEVICE void wait_for_predecessors() {
#if defined(GPTOSS_EMULATOR) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
  ptx::grid_dependency_wait();
  ptx::grid_launch_dependents();
#endif
}

}  // namespace gptoss::cuda
