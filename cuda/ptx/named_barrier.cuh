// Barriers 1 to 15 of a block (0 is __syncthreads()), for some of its warps. `threads` counts all who sync and all
// who arrive, a multiple of 32; lanes of a warp come together.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/named_barrier.cuh>
#else
namespace gptoss::ptx {

GPTOSS_PTX void named_barrier_sync(int barrier, int threads) {
  asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Comes, and does not wait.
GPTOSS_PTX void named_barrier_arrive(int barrier, int threads) {
  asm volatile("barrier.cta.arrive.aligned %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

}  // namespace gptoss::ptx
#endif
