// Two kernels of which the second begins while the first still runs: h = 2 x, then y = h + w
//
// The first lets the second start before its stores; the second loads w, which nobody writes, before it waits.
// Tested by hopper_test.cpp and graph_test.cpp.
#pragma once

#include "faults.h"
#include "ptx/grid_dependency.cuh"

namespace kernels {

constexpr int kDependentThreads = 64;

template <Fault kFault>
__global__ void __launch_bounds__(kDependentThreads) first_of_two(const float* x, float* h) {
  using namespace gptoss;
  const int i = blockIdx.x * kDependentThreads + threadIdx.x;
  ptx::grid_dependency_wait();  // x and h may be in use by the pair before this one
  ptx::grid_launch_dependents();
  h[i] = 2 * x[i];
}

template <Fault kFault>
__global__ void __launch_bounds__(kDependentThreads) second_of_two(float* h, const float* w, float* y) {
  using namespace gptoss;
  const int i = blockIdx.x * kDependentThreads + threadIdx.x;
  const float weight = w[i];
  float early = 0;
  if constexpr (kFault == Fault::kReadBeforeWait) early = h[i];
  if constexpr (kFault == Fault::kWriteBeforeWait) h[i] = 0;
  if constexpr (kFault != Fault::kMissingWait) ptx::grid_dependency_wait();
  y[i] = (kFault == Fault::kReadBeforeWait ? early : h[i]) + weight;
  ptx::grid_launch_dependents();
}

}  // namespace kernels
