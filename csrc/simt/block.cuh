// What the threads of a block find together.
#pragma once

#include "../args.h"
#include "port.cuh"

namespace gptoss::simt {

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
