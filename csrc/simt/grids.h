// Over which grids kernels are launched, and with how much shared memory: host code, the same for every GPU language.
#pragma once

#include <algorithm>

#include "../args.h"
#include "port.cuh"

namespace gptoss::simt {

inline dim3 warp_grid(int warps) { return dim3((warps + kBlockWarps - 1) / kBlockWarps); }

// Threads of a block that takes one row, or a part of it: some eight elements each, from one wave to kRowThreads.
inline int row_threads(int size) {
  int threads = 64;
  while (threads < kRowThreads && threads * 8 < size) threads *= 2;
  return threads;
}
// Blocks of so many threads, one element each: over rows, then over a row's parts.
inline dim3 element_grid(int rows, int size) {
  return dim3(rows, (size + row_threads(size) - 1) / row_threads(size));
}
constexpr size_t kRowShared = kMaxWarps * sizeof(float);  // of a block that sums over its row

inline dim3 linear_grid(int rows, int tokens) {
  return dim3((rows + kBlockWarps - 1) / kBlockWarps, (tokens + kTileTokens - 1) / kTileTokens);
}

constexpr size_t kAttentionShared = kBlockWarps * kPageSlots * sizeof(float);

// A few pairs for each thread and expert.
inline int group_threads(int pairs, int experts) {
  const int wanted = std::max(experts, pairs / 4 * experts / 8);
  return std::clamp((wanted + 63) / 64 * 64, 64, 1024);
}
inline size_t group_shared(int experts, int threads) {
  return (2 + static_cast<size_t>(group_parts(experts, threads))) * experts * sizeof(int32_t);
}

inline int sample_slices(int vocab) { return (vocab + kSliceTokens - 1) / kSliceTokens; }

}  // namespace gptoss::simt
