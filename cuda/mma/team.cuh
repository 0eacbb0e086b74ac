// Blocks that work together: who does what, who is the last, and who waits for the others.
//
// What is computed does not depend on which block is the last one, nor on when a block sees what it waits for. Counters
// are 0 between kernels: once by the host, when a state is made, and from then on by the last block.
// Tested by mma_attention_test.cpp and mma_few_test.cpp.
#pragma once

#include "simt/port.cuh"

namespace gptoss::cuda {

// The blocks of a kernel that do one job.
struct Team {
  int block, blocks;  // which of how many this one is
};

// Whether all of a team have come here before. By all threads of each of `blocks` blocks, once; `slot`: of shared memory,
// for what one thread finds.
GPTOSS_DEVICE bool is_last_block(unsigned* arrived, int blocks, int* slot) {
  __threadfence();  // what this thread has stored is there for whoever sees the block counted
  __syncthreads();  // all threads' stores are
  if (threadIdx.x == 0) {
    const bool last = atomicAdd(arrived, 1u) == static_cast<unsigned>(blocks - 1);
    if (last) *arrived = 0;  // for the next kernel, and the next replay
    *slot = last;
  }
  __syncthreads();  // what was found is there
  const bool last = *slot != 0;
  if (last) __threadfence();  // what the others have stored is read behind this
  return last;
}

// By all threads of a block that others wait for.
GPTOSS_DEVICE void count_block(unsigned* arrived) {
  __threadfence();  // who waits finds what this thread has stored
  __syncthreads();  // and what all threads have
  if (threadIdx.x == 0) atomicAdd(arrived, 1u);
}
// Until `blocks` were counted. They come first in the grid and wait for nobody, so that they end whatever waits here.
GPTOSS_DEVICE void wait_for_blocks(const unsigned* arrived, int blocks) {
  if (threadIdx.x == 0) {
    while (*static_cast<const volatile unsigned*>(arrived) < static_cast<unsigned>(blocks)) continue;
    __threadfence();  // what they have stored is read behind this
  }
  __syncthreads();  // by all threads
}

}  // namespace gptoss::cuda
