// y[i] = 3 x[i] + 1, by two warps that double and one that finishes
//
// Producers fill a buffer of two halves, the consumer empties them: barriers 1 and 2 say that a half is full, 3 and 4
// that it is free again. 96 threads. Tested by hopper_test.cpp.
#pragma once

#include "faults.h"
#include "ptx/named_barrier.cuh"

namespace kernels {

constexpr int kRelayProducers = 64, kRelayThreads = 96, kRelayStep = 64;

template <Fault kFault>
__global__ void __launch_bounds__(kRelayThreads) relay(const float* x, float* y, int count) {
  using namespace gptoss;
  __shared__ float buffer[2][kRelayStep];
  const int steps = count / kRelayStep;
  if (threadIdx.x < kRelayProducers) {
    for (int step = 0; step < steps; ++step) {
      const int half = step % 2;
      if (step >= 2) ptx::named_barrier_sync(3 + half, kRelayThreads);  // it is free
      buffer[half][threadIdx.x] = 3 * x[step * kRelayStep + threadIdx.x];
      ptx::named_barrier_arrive(1 + half, kRelayThreads);  // it is full
    }
  } else {
    for (int step = 0; step < steps; ++step) {
      const int half = step % 2;
      constexpr int kCount = kFault == Fault::kWrongBarrierCount ? kRelayThreads - 32 : kRelayThreads;
      ptx::named_barrier_sync(kFault == Fault::kWrongBarrierId ? 1 : 1 + half, kCount);
      for (int i = threadIdx.x - kRelayProducers; i < kRelayStep; i += 32) y[step * kRelayStep + i] = buffer[half][i] + 1;
      if (step + 2 < steps && kFault != Fault::kMissingSecondBarrier)
        ptx::named_barrier_arrive(3 + half, kRelayThreads);
    }
  }
}

// The same with nothing that holds the producers back: a planted fault as a whole.
template <Fault>
__global__ void __launch_bounds__(kRelayThreads) relay_unguarded(const float* x, float* y, int count) {
  using namespace gptoss;
  __shared__ float buffer[kRelayStep];
  for (int step = 0; step < count / kRelayStep; ++step) {
    if (threadIdx.x < kRelayProducers) {
      buffer[threadIdx.x] = 3 * x[step * kRelayStep + threadIdx.x];
      ptx::named_barrier_arrive(1, kRelayThreads);
    } else {
      ptx::named_barrier_sync(1, kRelayThreads);
      for (int i = threadIdx.x - kRelayProducers; i < kRelayStep; i += 32) y[step * kRelayStep + i] = buffer[i] + 1;
    }
  }
}

}  // namespace kernels
