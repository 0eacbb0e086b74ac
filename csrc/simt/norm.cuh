// out (rows, size) = x / sqrt(mean(x^2) + eps) * gain, rounded to bf16 where it enters a product of `fast`
//
// A warp per row, four rows to a block; the row is read twice, the second time from cache.
// Bound by latency: size * 8 bytes a row (23 KB of the 20b).
// The sum of squares is one warp's, in a fixed order; nothing is shared between warps.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "dot.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kBlockThreads) rmsnorm(NormArgs a) {
  const int row = global_warp();
  if (row >= *a.count) return;
  const float* x = a.x + static_cast<size_t>(a.row ? a.row[row] : row) * a.size;
  float* out = a.out + static_cast<size_t>(row) * a.size;

  float squares = 0;
  for (int i = lane(); i < a.size; i += kWarp) squares = fmaf(x[i], x[i], squares);
  const float mean = warp_sum(squares) / static_cast<float>(a.size);
  const float scale = 1.0f / sqrtf(mean + a.eps);
  for (int i = lane(); i < a.size; i += kWarp) {
    const float y = x[i] * scale * a.gain[i];
    out[i] = a.round ? round_to_bf16(y) : y;
  }
}

// What `fast` multiplies, where no norm stands before the product.
__global__ void __launch_bounds__(kBlockThreads) round_rows(RoundArgs a) {
  const int row = global_warp();
  if (row >= *a.count) return;
  const size_t offset = static_cast<size_t>(row) * a.size;
  for (int i = lane(); i < a.size; i += kWarp) a.out[offset + i] = round_to_bf16(a.x[offset + i]);
}

}  // namespace gptoss::simt
