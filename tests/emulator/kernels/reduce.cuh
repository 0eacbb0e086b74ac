// y[row] = sum of x[row, 0:columns]
//
// A block per row: each thread sums every blockDim-th element, warps reduce by shuffles, the first warp the warps.
// Bound by the reads of x. The order of the additions is that of the indices, whatever the schedule.
// Tested by simt_test.cpp (CUDA) and wave_test.cpp (HIP, waves of 64 and 32).
#pragma once

#include "faults.h"
#include "simt/port.cuh"

namespace kernels {

using gptoss::simt::kWarp;

constexpr int kReduceThreads = 256;

template <Fault kFault>
__global__ void __launch_bounds__(kReduceThreads) reduce_rows(const float* x, float* y, int columns) {
  using namespace gptoss::simt;
  constexpr int kWarps = kReduceThreads / kWarp;
  __shared__ float parts[kWarps];

  const float* row = x + static_cast<size_t>(blockIdx.x) * columns;
  float sum = 0;
  for (int i = threadIdx.x; i < columns; i += kReduceThreads) sum += row[kFault == Fault::kIndexOffByOne ? i + 1 : i];

  if constexpr (kFault == Fault::kWave32) {  // right for 32 lanes, wrong for 64
    for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  } else {
    sum = warp_sum(sum);
  }
  const int writers = kFault == Fault::kUninitialised ? kWarps - 1 : kWarps;
  if (lane() == 0 && warp() < writers) parts[kFault == Fault::kSharedOffByOne ? warp() + 1 : warp()] = sum;
  if constexpr (kFault != Fault::kMissingBarrier) __syncthreads();  // parts are there

  if (kFault == Fault::kEarlyReturn && warp() == 1) return;
  if constexpr (kFault == Fault::kEarlyReturn) __syncthreads();
  if (warp() == 0) {
    float part = lane() < kWarps ? parts[lane()] : 0.0f;
    part = warp_sum(part);
    if (lane() == 0) y[kFault == Fault::kUseAfterFree ? 0 : blockIdx.x] = part;
  }
}

}  // namespace kernels
