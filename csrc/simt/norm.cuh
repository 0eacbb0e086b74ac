// out (rows, size) = x / sqrt(mean(x^2) + eps) * gain, as the operand of a product
//
// A warp per row, four rows to a block; the row is read twice, the second time from cache.
// Bound by latency: size * 8 bytes a row (23 KB of the 20b).
// The sum of squares is one warp's, in a fixed order; nothing is shared between warps.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "dot.cuh"
#include "operand.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kBlockThreads) rmsnorm(NormArgs a) {
  wait_for_predecessors();
  const int row = global_warp();
  if (row >= *a.count) return;
  const int size = a.out.size;
  const float* x = a.x + static_cast<size_t>(a.row ? a.row[row] : row) * size;

  float squares = 0;
  for (int i = lane(); i < size; i += kWarp) squares = fmaf(x[i], x[i], squares);
  const float mean = warp_sum(squares) / static_cast<float>(size);
  const float scale = 1.0f / sqrtf(mean + a.eps);
  for (int i = lane(); i < size; i += kWarp) store_operand(a.out, row, i, x[i] * scale * a.gain[i]);
}

// An operand, where no norm stands before the product.
__global__ void __launch_bounds__(kBlockThreads) round_rows(RoundArgs a) {
  wait_for_predecessors();
  const int row = global_warp();
  if (row >= *a.count) return;
  const float* x = a.x + static_cast<size_t>(row) * a.out.size;
  for (int i = lane(); i < a.out.size; i += kWarp) store_operand(a.out, row, i, x[i]);
}

}  // namespace gptoss::simt
