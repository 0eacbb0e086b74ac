// One row of weights times a few rows of activations, by a warp.
#pragma once

#include "load.h"

namespace gptoss {

inline int global_warp(uint3 block, uint warp) {
  return static_cast<int>(block.x) * kBlockWarps + static_cast<int>(warp);
}

// The rows of activations of a tile.
struct TileRows {
  device const float* at[kTileTokens];
};

// sums[t] = sum over k of w[k] x[t][k], in every lane, for t < count. A lane takes every kWarp-th word of
// weights in ascending order, then the lanes' sums meet in one tree: the same additions whatever else is in
// the tile.
template <class Row>
inline void dot(Row row, int k, TileRows x, int count, thread float* sums, uint lane) {
  constexpr int kPerWord = Row::kPerWord;
  for (int t = 0; t < kTileTokens; ++t) sums[t] = 0;
  for (int word = lane; word < k / kPerWord; word += kWarp) {
    float w[kPerWord];
    row.unpack(word, w);
    for (int t = 0; t < kTileTokens; ++t) {
      if (t >= count) continue;
      float v[kPerWord];
      load_floats<kPerWord>(x.at[t] + static_cast<size_t>(word) * kPerWord, v);
      for (int i = 0; i < kPerWord; ++i) sums[t] = fmaf(w[i], v[i], sums[t]);
    }
  }
  for (int t = 0; t < kTileTokens; ++t)
    if (t < count) sums[t] = warp_sum(sums[t]);  // `count` is the same in all lanes
}

}  // namespace gptoss
