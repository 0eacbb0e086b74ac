// What the threads of a block find together.
#pragma once

#include "port.h"

namespace gptoss {

// Which element a thread takes, where blocks of element_grid() have one for each.
inline int element(uint3 block, uint thread_index, uint3 block_extent) {
  return static_cast<int>(block.y * block_extent.x + thread_index);
}

// op over all threads' values, in every thread: lanes in a tree, then warps in ascending order. `slots`:
// threadgroup memory, a number for each warp.
template <class T, class Op>
inline T block_reduce(T value, threadgroup T* slots, Op op, uint lane, uint warp, uint warps) {
  for (ushort mask = kWarp / 2; mask > 0; mask /= 2) value = op(value, shuffle_xor(value, mask));
  if (lane == 0) slots[warp] = value;
  sync_block();  // every warp's value is there
  T result = slots[0];
  for (uint w = 1; w < warps; ++w) result = op(result, slots[w]);
  sync_block();  // all have read: the slots may be used again
  return result;
}

// The sum of the values of all threads before this one. `slots` as above.
template <class T>
inline T block_sum_before(T value, threadgroup T* slots, uint lane, uint warp) {
  const T upto = warp_sum_up_to(value, lane);
  if (lane == kWarp - 1) slots[warp] = upto;
  sync_block();  // every warp's sum is there
  T before = upto - value;
  for (uint w = 0; w < warp; ++w) before += slots[w];
  sync_block();  // all have read the sums: the slots may be used again
  return before;
}

struct Lower {
  template <class T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Sum {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};

}  // namespace gptoss
