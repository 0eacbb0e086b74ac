// y[i] = sum over k of x[k, i], x (depth, width), depth split over blocks
//
// blockIdx.y sums its part of the depth into `partial`; the block that finishes last, by a counter, adds the parts
// in ascending order: the result does not depend on who that is. The counter ends as it began, at zero.
// Bound by memory. Tested by simt_test.cpp (CUDA) and wave_test.cpp (HIP).
#pragma once

#include "faults.h"
#include "simt/port.cuh"

namespace kernels {

constexpr int kSplitThreads = 64;

template <Fault kFault>
__global__ void __launch_bounds__(kSplitThreads)
    split_sum(const float* x, float* partial, unsigned* counter, float* y, int depth, int width) {
  __shared__ int is_last;
  const int column = blockIdx.x * kSplitThreads + threadIdx.x;
  const int parts = gridDim.y, part_depth = (depth + parts - 1) / parts;
  const int begin = blockIdx.y * part_depth, end = min(depth, begin + part_depth);
  float sum = 0;
  for (int k = begin; k < end; ++k)
    if (column < width) sum += x[static_cast<size_t>(k) * width + column];
  if (column < width) partial[static_cast<size_t>(blockIdx.y) * width + column] = sum;

  if constexpr (kFault != Fault::kMissingFence) __threadfence();  // the part is there before it is counted
  if constexpr (kFault != Fault::kMissingBarrier) __syncthreads();  // of all threads of the block
  if (threadIdx.x == 0) {
    if constexpr (kFault == Fault::kPlainIncrement) {
      is_last = counter[blockIdx.x] == static_cast<unsigned>(parts - 1);
      counter[blockIdx.x] += 1;
    } else {
      is_last = atomicAdd(&counter[blockIdx.x], 1u) == static_cast<unsigned>(parts - 1);
    }
  }
  if constexpr (kFault != Fault::kMissingSecondBarrier) __syncthreads();  // is_last is there
  if (!is_last) return;
  __threadfence();  // what the others counted is visible
  if (column < width) {
    float total = 0;
    for (int p = 0; p < parts; ++p) total += partial[static_cast<size_t>(p) * width + column];
    y[column] = total;
  }
  if (kFault != Fault::kCounterNotReset && threadIdx.x == 0) counter[blockIdx.x] = 0;
}

}  // namespace kernels
