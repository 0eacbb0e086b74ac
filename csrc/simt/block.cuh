// What the threads of a block find together.
#pragma once

#include "../args.h"
#include "port.cuh"

namespace gptoss::simt {

// Which element a thread takes, where blocks of element_grid() have one for each.
GPTOSS_DEVICE int element() {
  return static_cast<int>(blockIdx.y) * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x);
}

// op over all threads' values, in every thread: lanes in a tree, then warps in ascending order. `slots`:
// shared memory, a number for each warp.
template <class T, class Op>
GPTOSS_DEVICE T block_reduce(T value, T* slots, const Op& op) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = op(value, shuffle_xor(value, mask));
  if (lane() == 0) slots[warp()] = value;
  __syncthreads();  // every warp's value is there
  T result = slots[0];
  for (int w = 1; w < static_cast<int>(blockDim.x) / kWarp; ++w) result = op(result, slots[w]);
  __syncthreads();  // all have read: the slots may be used again
  return result;
}

// The sum of the values of all threads before this one. `slots` as above.
template <class T>
GPTOSS_DEVICE T block_sum_before(T value, T* slots) {
  T upto = value;
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T other = shuffle(upto, lane() >= distance ? lane() - distance : lane());
    if (lane() >= distance) upto += other;
  }
  if (lane() == kWarp - 1) slots[warp()] = upto;
  __syncthreads();  // every warp's sum is there
  T before = upto - value;
  for (int w = 0; w < warp(); ++w) before += slots[w];
  __syncthreads();  // all have read: the slots may be used again
  return before;
}

struct Lower {
  template <class T>
  GPTOSS_DEVICE T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Sum {
  template <class T>
  GPTOSS_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace gptoss::simt
