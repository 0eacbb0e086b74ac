// y[i] = x[0] + ... + x[i] within each group of 32
//
// Through shared memory, one warp, doubling steps with __syncwarp() between them: lanes of a warp do not run in
// lockstep. Tested by simt_test.cpp (CUDA).
#pragma once

#include "faults.h"
#include "simt/port.cuh"

namespace kernels {

template <Fault kFault>
__global__ void __launch_bounds__(32) warp_scan(const float* x, float* y) {
  __shared__ float sums[32];
  const int i = threadIdx.x;
  float sum = x[blockIdx.x * 32 + i];
  for (int distance = 1; distance < 32; distance *= 2) {
    sums[i] = sum;
    if constexpr (kFault != Fault::kMissingWarpSync) __syncwarp();  // every lane's sum is there
    if (i >= distance) sum += sums[i - distance];
    __syncwarp();  // every lane has read
  }
  y[blockIdx.x * 32 + i] = sum;
}

// y = 2 x, four elements for each thread by one vector access.
template <Fault kFault>
__global__ void double_vectors(const float* x, float* y, int count) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count / 4) return;
  const float* from = x + 4 * static_cast<size_t>(i) + (kFault == Fault::kMisalignedVector ? 1 : 0);
  const float4 v = *reinterpret_cast<const float4*>(from);
  *reinterpret_cast<float4*>(y + 4 * static_cast<size_t>(i)) = make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w);
}

}  // namespace kernels
