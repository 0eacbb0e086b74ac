// Weights from rows, as the checkpoint has them, into the order of weights.cuh: when a model is loaded, piece by piece.
//
// A thread for each 32-bit word. Bound by the copy from the host that comes before it. No sums; every word has one
// writer. Tested by mma_product_test.cpp.
#pragma once

#include "simt/matrix_kernels.h"
#include "weights.cuh"

namespace gptoss::cuda {

constexpr int kArrangeThreads = 256;

struct ArrangeArgs {
  simt::MatrixRows from;
  uint8_t* to;  // of the expert
  int k, head_dim;  // 0: rows keep their order
};

// Where a row lies. Of qkv the halves of a head's rotated pairs are the halves of a strip: rows j and j + head_dim / 2.
struct RowPlace {
  int strip, g, upper;
  GPTOSS_DEVICE RowPlace(int row, int head_dim) : strip(row / kStripRows), g(row % 8), upper(row / 8 % 2) {
    if (head_dim == 0) return;
    const int j = row % head_dim, half = head_dim / 2;
    upper = j >= half;
    strip = row / head_dim * (head_dim / kStripRows) + j % half / 8;
    g = j % half % 8;
  }
};

__global__ void __launch_bounds__(kArrangeThreads) arrange_bf16(ArrangeArgs a) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kArrangeThreads + threadIdx.x;
  const int words = a.k / 2;
  if (i >= static_cast<size_t>(a.from.count) * words) return;
  const int row = a.from.first + static_cast<int>(i / words), column = static_cast<int>(i % words) * 2;
  const RowPlace place(row, a.head_dim);
  const int in_unit = column % kUnitDepth, t = in_unit % 32 / 8, step = in_unit / 32 * 2 + in_unit % 8 / 4, a_register = in_unit % 4 / 2 * 2 + place.upper;
  uint8_t* unit = a.to + (static_cast<size_t>(place.strip) * (a.k / kUnitDepth) + column / kUnitDepth) * kBf16UnitBytes;
  reinterpret_cast<uint32_t*>(unit)[(step * 32 + place.g * 4 + t) * 4 + a_register] =
      reinterpret_cast<const uint32_t*>(a.from.dense)[i];
}

GPTOSS_DEVICE uint32_t recode(uint32_t codes) {
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t code = codes >> (4 * i) & 15, sign = code >> 3, magnitude = code & 7;
    const int pair = i / 2;
    const uint32_t half = pair < 3 ? sign << (15 - 3 * pair) | magnitude << (6 - 3 * pair)
                                   : sign << 14 | (magnitude >> 2) << 13 | (magnitude & 3) << 10;
    word |= half << (16 * (i % 2));
  }
  return word;
}

// Codes for unpack_pair(), or as they are. One thread of four takes the words' scale, too.
template <bool kRecode>
__global__ void __launch_bounds__(kArrangeThreads) arrange_mxfp4(ArrangeArgs a) {
  const size_t i = static_cast<size_t>(blockIdx.x) * kArrangeThreads + threadIdx.x;
  const int words = a.k / 8;
  if (i >= static_cast<size_t>(a.from.count) * words) return;
  const int row = a.from.first + static_cast<int>(i / words), word = static_cast<int>(i % words);
  const int g = row % 8, upper = row / 8 % 2, t = word % 4, second = word / 4 % 2;
  uint8_t* unit = a.to + (static_cast<size_t>(row / kStripRows) * (a.k / kUnitDepth) + word / 8) * kMxfp4UnitBytes;
  reinterpret_cast<uint32_t*>(unit)[(g * 4 + t) * 4 + second * 2 + upper] = kRecode ? recode(a.from.blocks[i]) : a.from.blocks[i];
  if (t == 0) unit[kMxfp4CodeBytes + g * 4 + second * 2 + upper] = a.from.scales[i / 4];
}

}  // namespace gptoss::cuda
