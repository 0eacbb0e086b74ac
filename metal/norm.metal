// out (rows, size) = x / sqrt(mean(x^2) + eps) * gain, as the operand of a product
//
// A block per row, whose threads stride over it twice, the second time from cache; round_rows a thread per element.
// Bound by latency: size * 8 bytes a row (23 KB of the 20b), so many threads take a row.
// The sum of squares is each thread's, then the block's in a fixed order: by the row's size alone.
// Tested by test_metal.py. Reads as csrc/simt/norm.cuh.
#include "block.h"
#include "operand.h"

using namespace gptoss;

kernel void rmsnorm(constant NormArgs& a [[buffer(0)]], threadgroup float* slots [[threadgroup(0)]],
                    GPTOSS_PLACE, GPTOSS_STRIDES) {
  const int row = block.x, size = a.out.size, threads = block_extent.x;
  if (row >= *a.count) return;  // the whole block
  device const float* x = a.x + static_cast<size_t>(a.row ? a.row[row] : row) * size;

  float squares = 0;
  for (int i = thread_index; i < size; i += threads) squares = fmaf(x[i], x[i], squares);
  const float mean = block_reduce(squares, slots, Sum(), lane, warp, threads / kWarp) / static_cast<float>(size);
  const float scale = 1.0f / sqrtf(mean + a.eps);
  for (int i = thread_index; i < size; i += threads) store_operand(a.out, row, i, x[i] * scale * a.gain[i]);
}

// An operand, where no norm stands before the product.
kernel void round_rows(constant RoundArgs& a [[buffer(0)]], GPTOSS_PLACE, GPTOSS_STRIDES) {
  const int row = block.x, i = element(block, thread_index, block_extent);
  if (row < *a.count && i < a.out.size) store_operand(a.out, row, i, a.x[static_cast<size_t>(row) * a.out.size + i]);
}
