// Weights from rows, as the checkpoint has them, into the order of weights.cuh: when a model is loaded, piece
// by piece.
//
// A thread for each 16 bytes of the result. Bound by the copy from the host that comes before it. No sums;
// every byte has one writer. Tested by hip_product_test.cpp.
#pragma once

#include "simt/matrix_kernels.h"
#include "weights.cuh"

namespace gptoss::hip {

constexpr int kArrangeThreads = 256;

struct ArrangeArgs {
  simt::MatrixRows from;
  uint8_t* to;  // of the expert
  int k;
};

// Eight numbers of a row.
__global__ void __launch_bounds__(kArrangeThreads) arrange_bf16(ArrangeArgs a) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kArrangeThreads + threadIdx.x;
  const int pieces = a.k / 8;
  if (i >= static_cast<size_t>(a.from.count) * pieces) return;
  const int row = a.from.first + static_cast<int>(i / pieces), piece = static_cast<int>(i % pieces);
  uint8_t* unit = a.to + row / kStripRows * Layout::bf16_strip_bytes(a.k) + piece / 4 * kBf16UnitBytes;
  reinterpret_cast<uint4*>(unit)[piece % 4 * kStripRows + row % kStripRows] =
      reinterpret_cast<const uint4*>(a.from.dense)[i];
}

// The 32 codes of a block, as byte permutes take them or as they are, and its scale.
template <bool kRecode>
__global__ void __launch_bounds__(kArrangeThreads) arrange_mxfp4(ArrangeArgs a) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kArrangeThreads + threadIdx.x;
  const int blocks = a.k / 32;
  if (i >= static_cast<size_t>(a.from.count) * blocks) return;
  const int row = a.from.first + static_cast<int>(i / blocks), block = static_cast<int>(i % blocks);
  uint8_t* unit = a.to + row / kStripRows * Layout::mxfp4_strip_bytes(a.k) + block * kMxfp4UnitBytes;
  uint4 codes = reinterpret_cast<const uint4*>(a.from.blocks)[i];
  if constexpr (kRecode) codes = {recode(codes.x), recode(codes.y), recode(codes.z), recode(codes.w)};
  reinterpret_cast<uint4*>(unit)[row % kStripRows] = codes;
  unit[kMxfp4CodeBytes + row % kStripRows] = a.from.scales[i];
}

}  // namespace gptoss::hip
