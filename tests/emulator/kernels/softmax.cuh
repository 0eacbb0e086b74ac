// y[row] = softmax(x[row]), x (rows, columns)
//
// A warp per row, four rows per block: maximum and sum by shuffles, no shared memory. Bound by memory. Sums in the
// order of the shuffles' tree. Tested by simt_test.cpp (CUDA).
#pragma once

#include "faults.h"
#include "simt/port.cuh"

namespace kernels {

constexpr int kSoftmaxRows = 4;

template <Fault kFault>
__global__ void __launch_bounds__(kSoftmaxRows * 32) softmax(const float* x, float* y, int rows, int columns) {
  using namespace gptoss::simt;
  const int row = blockIdx.x * kSoftmaxRows + warp();
  if (row >= rows) return;  // a whole warp
  const float* in = x + static_cast<size_t>(row) * columns;
  float* out = y + static_cast<size_t>(row) * columns;

  float largest = -INFINITY;
  for (int i = lane(); i < columns; i += 32) largest = fmaxf(largest, in[i]);
  if constexpr (kFault == Fault::kMaskOffByOne) {
    for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, __shfl_xor_sync(0x7fffffffu, largest, mask));
  } else if constexpr (kFault == Fault::kShuffleInBranch) {
    if (lane() < columns % 32) largest = warp_max(largest);
  } else if constexpr (kFault == Fault::kShuffleFromAbsentLane) {
    if (lane() < 24) largest = __shfl_down_sync(0x00ffffffu, largest, 1);
  } else {
    largest = warp_max(largest);
  }

  float sum = 0;
  for (int i = lane(); i < columns; i += 32) sum += expf(in[i] - largest);
  if constexpr (kFault == Fault::kLaneZeroOnly) {
    for (int distance = 16; distance > 0; distance /= 2) sum += shuffle_down(sum, distance);  // only lane 0 has it
  } else {
    sum = warp_sum(sum);
  }
  for (int i = lane(); i < columns; i += 32) out[i] = expf(in[i] - largest) / sum;
}

}  // namespace kernels
