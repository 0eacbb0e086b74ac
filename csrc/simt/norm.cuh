// out (rows, size) = x / sqrt(mean(x^2) + eps) * gain, as the operand of a product
//
// A block per row, whose threads stride over it twice, the second time from cache; round_rows a thread per element.
// Bound by latency: size * 8 bytes a row (23 KB of the 20b), so many threads take a row.
// The sum of squares is each thread's, then the block's in a fixed order: by the row's size alone.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "block.cuh"
#include "operand.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kRowThreads) rmsnorm(NormArgs a) {
  GPTOSS_DYNAMIC_SHARED(float, slots);
  wait_for_predecessors();
  const int row = static_cast<int>(blockIdx.x), size = a.out.size;
  if (row >= *a.count) return;  // the whole block
  const float* x = a.x + static_cast<size_t>(a.row ? a.row[row] : row) * size;

  float squares = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < size; i += blockDim.x) squares = fmaf(x[i], x[i], squares);
  const float mean = block_reduce(squares, slots, Sum()) / static_cast<float>(size);
  const float scale = 1.0f / sqrtf(mean + a.eps);
#pragma unroll 4
  for (int i = threadIdx.x; i < size; i += blockDim.x) store_operand(a.out, row, i, x[i] * scale * a.gain[i]);
}

// An operand, where no norm stands before the product.
__global__ void __launch_bounds__(kRowThreads) round_rows(RoundArgs a) {
  wait_for_predecessors();
  const int row = static_cast<int>(blockIdx.x), i = element();
  if (row < *a.count && i < a.out.size) store_operand(a.out, row, i, a.x[static_cast<size_t>(row) * a.out.size + i]);
}

}  // namespace gptoss::simt
