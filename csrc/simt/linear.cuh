// y (tokens, rows) = x (tokens, k) W (rows, k)' + bias, or added to y; W bf16
//
// A warp computes one row of W for up to kTileTokens tokens; four rows a block, tiles of tokens along grid.y.
// Bound by reading W once for every tile of tokens: k * rows * 2 bytes (qkv of the 20b: 29 MB).
// Every element is one warp's sum over k in a fixed order; nothing is shared between warps.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "dot.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kBlockThreads) linear(LinearArgs a) {
  wait_for_predecessors();
  const int row = global_warp(), first = static_cast<int>(blockIdx.y) * kTileTokens;
  const int count = min(*a.count - first, kTileTokens);
  if (row >= a.rows || count <= 0) return;

  const float* x[kTileTokens];
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) x[t] = a.x.values + static_cast<size_t>(first + min(t, count - 1)) * a.k;
  float sums[kTileTokens];
  dot(Bf16Row{a.weight + static_cast<size_t>(row) * a.k}, a.k, x, count, sums);

  if (lane() != 0) return;
  const float bias = a.bias ? a.bias[row] : 0.0f;
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) {
    if (t >= count) continue;
    float* y = a.y + static_cast<size_t>(first + t) * a.rows + row;
    *y = a.add ? *y + (sums[t] + bias) : sums[t] + bias;
  }
}

}  // namespace gptoss::simt
