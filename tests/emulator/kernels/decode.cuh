// One step of a toy decoder, for graphs: cache[position] = x[position]; y = sum of cache[0 : position + 1]
//
// What changes from step to step, the position, lies in device memory, and the last kernel advances it: a graph's
// arguments are those of its capture. One block of 32 threads. Tested by host_test.cpp.
#pragma once

#include "faults.h"
#include "simt/port.cuh"

namespace kernels {

template <Fault kFault>
__global__ void append(const float* x, float* cache, const int* position, int position_argument) {
  const int at = kFault == Fault::kArgumentByValue ? position_argument : *position;
  if (threadIdx.x == 0) cache[at] = x[at];
}

template <Fault kFault>
__global__ void sum_cache(const float* cache, float* y, const int* position, int position_argument) {
  const int end = (kFault == Fault::kArgumentByValue ? position_argument : *position) + 1;
  float sum = 0;
  for (int i = threadIdx.x; i < end; i += 32) sum += cache[i];
  sum = gptoss::simt::warp_sum(sum);
  if (threadIdx.x == 0) y[end - 1] = sum;
}

[[maybe_unused]] static __global__ void advance(int* position) {
  if (threadIdx.x == 0) ++*position;
}

// y[i] = x[i] + 1, by one block.
[[maybe_unused]] static __global__ void add_one(const float* x, float* y, int count) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) y[i] = x[i] + 1;
}

}  // namespace kernels
