// One row of weights times a few rows of activations, by a warp.
#pragma once

#include "../args.h"
#include "load.cuh"

namespace gptoss::simt {

constexpr int kBlockThreads = kBlockWarps * kWarp;  // for kernels only: the host asks for warp_size()

GPTOSS_DEVICE int global_warp() { return static_cast<int>(blockIdx.x) * kBlockWarps + warp(); }

// sums[t] = sum over k of w[k] x[t][k], in every lane, for t < count. A lane takes every kWarp-th word of
// weights in ascending order, then the lanes' sums meet in one tree: the same additions whatever else is in
// the tile.
template <class Row>
GPTOSS_DEVICE void dot(const Row& row, int k, const float* const (&x)[kTileTokens], int count,
                       float (&sums)[kTileTokens]) {
  constexpr int kPerWord = Row::kPerWord;
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) sums[t] = 0;
  for (int word = lane(); word < k / kPerWord; word += kWarp) {
    float w[kPerWord];
    row.unpack(word, w);
#pragma unroll
    for (int t = 0; t < kTileTokens; ++t) {
      if (t >= count) continue;
      float v[kPerWord];
      load_floats(x[t] + static_cast<size_t>(word) * kPerWord, v);
#pragma unroll
      for (int i = 0; i < kPerWord; ++i) sums[t] = fmaf(w[i], v[i], sums[t]);
    }
  }
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t)
    if (t < count) sums[t] = warp_sum(sums[t]);  // `count` is the same in all lanes
}

}  // namespace gptoss::simt
