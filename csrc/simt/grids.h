// Over which grids kernels are launched, and with how much shared memory: host code, the same for every GPU language.
#pragma once

#include "../args.h"
#include "port.cuh"

namespace gptoss::simt {

inline dim3 warp_grid(int warps) { return dim3((warps + kBlockWarps - 1) / kBlockWarps); }
inline dim3 linear_grid(int rows, int tokens) {
  return dim3((rows + kBlockWarps - 1) / kBlockWarps, (tokens + kTileTokens - 1) / kTileTokens);
}

constexpr size_t kAttentionShared = kBlockWarps * kPageSlots * sizeof(float);
inline size_t group_shared(int experts) { return 2 * static_cast<size_t>(experts) * sizeof(int32_t); }

inline int sample_threads(int vocab) {  // a few passes of the block, in whole warps of any width
  int threads = 64;
  while (threads < 1024 && threads * 64 < vocab) threads *= 2;
  return threads;
}

}  // namespace gptoss::simt
