// The order in which weights lie for tcgen05.
//
// Blocks of 128 rows by 128 columns, those of the same rows one behind the other; what is missing of the last ones is never
// looked at. A block has its codes as the checkpoint has them, in rows of 64 bytes; then, as tensor memory wants them, the
// scales: of row r and 32 columns c byte 16 (r % 32) + 4 (r / 32) + c, so that a lane's 16 bytes are four columns of it.
// Tested by tcgen05_product_test.cpp.
#pragma once

#include "simt/port.cuh"

namespace gptoss::cuda::tcgen05 {

constexpr int kBlockRows = 128, kBlockDepth = 128;
constexpr int kStepDepth = 32, kSteps = kBlockDepth / kStepDepth;  // a step: what an instruction multiplies, with one scale
constexpr int kRowBytes = kBlockDepth / 2, kCodeBytes = kBlockRows * kRowBytes, kScaleBytes = kBlockRows * kSteps;
constexpr int kBlockBytes = kCodeBytes + kScaleBytes;
static_assert(kBlockBytes % kRowBytes == 0, "a block begins at a row of the matrix that a tensor copy sees");

constexpr __host__ __device__ int blocks_of(int rows) { return (rows + kBlockRows - 1) / kBlockRows; }
constexpr __host__ __device__ int blocks_along(int k) { return (k + kBlockDepth - 1) / kBlockDepth; }
constexpr __host__ __device__ size_t expert_blocks(int rows, int k) {
  return static_cast<size_t>(blocks_of(rows)) * blocks_along(k);
}

// Where the scales of a row's step are among those of 128 rows: of weights, and of a tile of activations.
GPTOSS_DEVICE int scale_at(int row, int step) { return row % 32 * 16 + row / 32 * 4 + step; }

}  // namespace gptoss::cuda::tcgen05
