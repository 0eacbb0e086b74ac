// Weights from rows, as the checkpoint has them, into the order of weights.cuh: when a model is loaded, piece by piece.
//
// A thread for each 32-bit word. Bound by the copy from the host that comes before it. No sums; every word has one
// writer. Tested by tcgen05_product_test.cpp.
#pragma once

#include "mma/architecture.cuh"
#include "simt/matrix_kernels.h"
#include "weights.cuh"

namespace gptoss::cuda::tcgen05 {

constexpr int kArrangeThreads = 256;

struct ArrangeArgs {
  simt::MatrixRows from;
  uint8_t* to;  // of the expert
  int k;
};

// One thread of four takes the words' scale, too.
__global__ void __launch_bounds__(kArrangeThreads) arrange_blocks(ArrangeArgs a) {
#if GPTOSS_HAS_TCGEN05
  const size_t i = static_cast<size_t>(blockIdx.x) * kArrangeThreads + threadIdx.x;
  const int words = a.k / 8;
  if (i >= static_cast<size_t>(a.from.count) * words) return;
  const int row = a.from.first + static_cast<int>(i / words), word = static_cast<int>(i % words), column = word * 8;
  const int in_block = row % kBlockRows;
  uint8_t* const block = a.to + (static_cast<size_t>(row / kBlockRows) * blocks_along(a.k) + column / kBlockDepth) * kBlockBytes;
  reinterpret_cast<uint32_t*>(block + in_block * kRowBytes)[column % kBlockDepth / 8] = a.from.blocks[i];
  if (word % 4 == 0) block[kCodeBytes + scale_at(in_block, column % kBlockDepth / kStepDepth)] = a.from.scales[i / 4];
#endif
}

}  // namespace gptoss::cuda::tcgen05
