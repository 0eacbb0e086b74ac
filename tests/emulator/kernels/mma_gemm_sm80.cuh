// c[m, n] = sum over k of a[m, k] b[n, k]: a (M, K), b (N, K) bf16, c (M, N) f32
//
// A block of four warps per 64 x 64 tile of c, warp w its rows 16 w to 16 w + 15. K in steps of 32 through three
// stages of shared memory, filled by cp.async: two stages are on their way while one is multiplied. Rows of a stage
// are 64 bytes, their four 16-byte units swizzled by the row so that ldmatrix meets no bank twice.
// Bound by the tensor cores for large M and N. K is summed in ascending order. M and N multiples of 64, K of 32.
// Tested by tensor_core_test.cpp.
#pragma once

#include "faults.h"
#include "ptx/copy_async.cuh"
#include "ptx/matrix.cuh"

namespace kernels {

constexpr int kMmaTile = 64, kMmaDepth = 32, kMmaStages = 3, kMmaThreads = 128;
constexpr int kMmaUnits = kMmaDepth / 8;  // 16 bytes each, in a row
constexpr size_t kMmaShared = size_t{kMmaStages} * 2 * kMmaTile * kMmaDepth * sizeof(uint16_t);

// Element offset of a unit in a tile.
GPTOSS_DEVICE int mma_unit(int row, int unit) { return row * kMmaDepth + (unit ^ (row / 2 % kMmaUnits)) * 8; }

template <Fault kFault>
__global__ void __launch_bounds__(kMmaThreads)
    mma_gemm(const uint16_t* a, const uint16_t* b, float* c, int m_total, int n_total, int k_total) {
  using namespace gptoss;
  (void)m_total;
  GPTOSS_DYNAMIC_SHARED(uint16_t, tiles);
  constexpr int kTileElements = kMmaTile * kMmaDepth;
  const auto a_tile = [&](int stage) { return tiles + (2 * stage) * kTileElements; };
  const auto b_tile = [&](int stage) { return tiles + (2 * stage + 1) * kTileElements; };
  const int m0 = blockIdx.x * kMmaTile, n0 = blockIdx.y * kMmaTile, steps = k_total / kMmaDepth;
  const int lane = simt::lane(), warp = simt::warp();

  const auto load = [&](int step) {
    if (step < steps) {
      const int stage = step % kMmaStages;
      for (int i = threadIdx.x; i < kMmaTile * kMmaUnits; i += kMmaThreads) {
        const int row = i / kMmaUnits, unit = i % kMmaUnits, k = step * kMmaDepth + unit * 8;
        const int skew = kFault == Fault::kMisalignedCopy ? 1 : 0;
        ptx::cp_async_16(a_tile(stage) + mma_unit(row, unit), a + static_cast<size_t>(m0 + row) * k_total + k + skew);
        ptx::cp_async_16(b_tile(stage) + mma_unit(row, unit), b + static_cast<size_t>(n0 + row) * k_total + k);
      }
    }
    // A group for each step, empty or not: so the wait's count is the same at the end.
    if (kFault != Fault::kMissingCommit || step % 2 == 0) ptx::cp_async_commit_group();
  };

  float sums[8][4] = {};
  for (int step = 0; step < kMmaStages - 1; ++step) load(step);
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait_group<kFault == Fault::kWrongWaitCount ? kMmaStages - 1 : kMmaStages - 2>();
    if constexpr (kFault != Fault::kMissingCopyBarrier) __syncthreads();  // everybody's copies of this step are there,
    if constexpr (kFault == Fault::kMissingReuseBarrier) load(step + kMmaStages);  // a stage too early
    else load(step + kMmaStages - 1);                                     // and the step before it is read
    const uint16_t *as = a_tile(step % kMmaStages), *bs = b_tile(step % kMmaStages);
#pragma unroll
    for (int k = 0; k < kMmaDepth / 16; ++k) {
      uint32_t a_fragment[4];
      const int swap = kFault == Fault::kWrongFragmentRow ? 1 : 0;
      const int row = warp * 16 + (swap ? lane / 2 : lane % 16), unit = swap ? lane % 2 : lane / 16;
      if constexpr (kFault == Fault::kWrongSwizzle)
        ptx::ldmatrix_x4(a_fragment, as + row * kMmaDepth + (2 * k + unit) * 8);
      else
        ptx::ldmatrix_x4(a_fragment, as + mma_unit(row, 2 * k + unit));
#pragma unroll
      for (int j = 0; j < kMmaTile / 8; ++j) {
        uint32_t b_fragment[2];
        ptx::ldmatrix_x2(b_fragment, bs + mma_unit(j * 8 + lane % 8, 2 * k + lane / 8 % 2));
        if constexpr (kFault == Fault::kHalfWarpMma) {
          if (lane < 16) ptx::mma_m16n8k16_bf16(sums[j], a_fragment, b_fragment);
        } else {
          ptx::mma_m16n8k16_bf16(sums[j], a_fragment, b_fragment);
        }
      }
    }
  }

  const int g = lane / 4, t = lane % 4;
  for (int j = 0; j < kMmaTile / 8; ++j)
    for (int i = 0; i < 4; ++i) {
      const int half = kFault == Fault::kWrongFragmentIndex ? i % 2 : i / 2, odd = kFault == Fault::kWrongFragmentIndex ? i / 2 : i % 2;
      c[static_cast<size_t>(m0 + warp * 16 + g + 8 * half) * n_total + n0 + j * 8 + 2 * t + odd] = sums[j][i];
    }
}

}  // namespace kernels
