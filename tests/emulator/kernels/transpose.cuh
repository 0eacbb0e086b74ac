// y[c, r] = x[r, c], x (rows, columns)
//
// A block per 32 x 32 tile, 32 x 8 threads, through shared memory so that both sides are read and written in rows.
// Bound by memory. Nothing is summed. Tested by simt_test.cpp (CUDA) and wave_test.cpp (HIP).
#pragma once

#include "faults.h"
#include "simt/port.cuh"

namespace kernels {

constexpr int kTile = 32, kTileRows = 8;

template <Fault kFault>
__global__ void __launch_bounds__(kTile* kTileRows) transpose(const float* x, float* y, int rows, int columns) {
  __shared__ float tile[kTile][kTile + 1];  // one more, so that a column lies in 32 banks
  const int column = blockIdx.x * kTile + threadIdx.x, row = blockIdx.y * kTile + threadIdx.y;
  for (int i = 0; i < kTile; i += kTileRows)
    if (row + i < rows && (column < columns || kFault == Fault::kIndexOffByOne))
      tile[threadIdx.y + i][threadIdx.x] = x[static_cast<size_t>(row + i) * columns + column];
  if constexpr (kFault == Fault::kBarrierInBranch) {
    if (column < columns) __syncthreads();
  } else if constexpr (kFault != Fault::kMissingBarrier) {
    __syncthreads();  // the tile is there
  }
  const int out_row = blockIdx.x * kTile + threadIdx.y, out_column = blockIdx.y * kTile + threadIdx.x;
  const int skew = kFault == Fault::kSharedOffByOne ? 1 : 0;
  for (int i = 0; i < kTile; i += kTileRows)
    if (out_row + i < columns && out_column < rows)
      y[static_cast<size_t>(out_row + i) * rows + out_column] = tile[threadIdx.x][threadIdx.y + i + skew];
}

}  // namespace kernels
