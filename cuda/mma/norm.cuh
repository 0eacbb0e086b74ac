// The scales of rmsnorm for the few rows of a product that normalises its own activations: scale[row] = 1 / sqrt(mean(x^2)
// + eps), by every block
//
// Threads stride over all rows together, so that their loads are in flight together; rows of the 20b are 11.5 KB.
// Bound by latency: one pass from L2. Summed as csrc/simt/norm.cuh sums a row, by as many threads as that has: the same bits.
// Tested by mma_few_test.cpp and test_matrix_kernels.py.
#pragma once

#include "args.h"
#include "simt/port.cuh"

namespace gptoss::cuda {

// `threads`: of a block of rmsnorm. `slots`: (kRows, warps of the block), `scales`: (kRows), of shared memory.
template <int kRows>
GPTOSS_DEVICE void find_scales(const NormArgs& a, int threads, int live, float* slots, float* scales) {
  const int size = a.out.size, warps = threads / simt::kWarp;
  float squares[kRows] = {};
  if (static_cast<int>(threadIdx.x) < threads) {
#pragma unroll 2
    for (int i = threadIdx.x; i < size; i += threads)
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float x = r < live ? a.x[static_cast<size_t>(r) * size + i] : 0.0f;
        squares[r] = fmaf(x, x, squares[r]);
      }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float sum = simt::warp_sum(squares[r]);
    if (simt::lane() == 0 && simt::warp() < warps) slots[r * warps + simt::warp()] = sum;
  }
  __syncthreads();  // every warp's sums are there
  if (static_cast<int>(threadIdx.x) < kRows) {
    float sum = slots[threadIdx.x * warps];
    for (int w = 1; w < warps; ++w) sum += slots[threadIdx.x * warps + w];
    scales[threadIdx.x] = 1.0f / sqrtf(sum / static_cast<float>(size) + a.eps);
  }
  __syncthreads();  // the scales are there, and the slots may be used for something else
}

}  // namespace gptoss::cuda
