// y (columns, rows) = W (rows, k) x (columns, k)', on matrix cores: a stream of weights past some columns of
// activations
//
// An item is kStrips strips of 16 rows times up to 16 kTiles columns: bf16 terms of tokens, or of an expert's
// pairs.
// Blocks take items in turn. In an item each of four waves sums a fixed part of k, operands straight from
// memory to registers, the next weights on their way; then the waves add their parts in ascending order in
// shared memory, and the terms of a token follow.
// Bound by reading W once for every 16 kTiles columns (qkv of the 20b: 29 MB, an expert: 13.2 MB) while those
// are few; then by the matrix cores, and by activations from cache, 1 KB for each unit and tile of columns.
// An element depends on its row and its own column only, whatever else is in the item; no atomics, no
// grid-wide barrier.
// Tested by hip_product_test.cpp (each kind of matrix core; faults) and test_matrix_kernels.py (in the
// engine).
#pragma once

#include "simt/product_jobs.cuh"
#include "weights.cuh"

namespace gptoss::hip {

constexpr int kProductWaves = 4;
constexpr int kMostTiles = 4;  // of 16 columns

template <int kStrips, int kTiles>
struct ProductShape {
  static constexpr int kPitch =
      kStrips * kStripRows + 4;  // floats of a column: lanes of a fragment meet no bank twice
  static constexpr size_t kShared = size_t{kTileColumns} * kTiles * kPitch * sizeof(float);
  static_assert(kShared <= 65536, "what every card gives a block");
};

template <class Format, int kStrips, int kTiles, class Job>
__global__ void __launch_bounds__(kProductWaves* simt::kWarp) matrix_product([[maybe_unused]] const Job job) {
#if GPTOSS_HAS_MATRIX_CORE
  using Core = MatrixCore;
  constexpr int kPitch = ProductShape<kStrips, kTiles>::kPitch;
  GPTOSS_DYNAMIC_SHARED(float, parts);  // (columns, kPitch)
  const int wave = simt::warp(), column = simt::lane() % kTileColumns, group = lane_group();
  const int units = job.depth() / kUnitDepth, steps = (units + Core::kGroups - 1) / Core::kGroups;
  const int first = wave * steps / kProductWaves, end = (wave + 1) * steps / kProductWaves;
  const size_t strip_bytes = units * Format::kUnitBytes;

  const int items = job.items();
  for (int item = blockIdx.x; item < items; item += gridDim.x) {
    const int live = job.sources(item), terms = job.x().count;
    const int used = (live * terms + kTileColumns - 1) / kTileColumns;
    const uint8_t* const weights = job.weights(item);
    const uint16_t* x[kTiles];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int c = kTileColumns * j + column, row = job.source(item, min(c / terms, max(live - 1, 0)));
      x[j] = job.x().terms + (static_cast<size_t>(row) * terms + c % terms) * job.depth();
    }

    // Of this lane's unit of a step; none is left for some lanes in the last one.
    typename Format::Raw raw[kStrips];
    const auto load_weights = [&](int step) {
      const int unit = step * Core::kGroups + group;
#pragma unroll
      for (int s = 0; s < kStrips; ++s) {
        if (unit < units)
          raw[s].load(weights + s * strip_bytes + unit * Format::kUnitBytes);
        else
          raw[s].clear();
      }
    };
    typename Core::Sums sums[kStrips][kTiles] = {};
    if (first < end) load_weights(first);
    for (int step = first; step < end; ++step) {
      typename Format::Weights w[kStrips];
#pragma unroll
      for (int s = 0; s < kStrips; ++s) raw[s].unpack(w[s]);
      if (step + 1 < end) load_weights(step + 1);

      const int unit = step * Core::kGroups + group;
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        if (j >= used) continue;
        UnitOfLane activations = {};
        if (unit < units) {
          const uint4* from = reinterpret_cast<const uint4*>(x[j] + static_cast<size_t>(unit) * kUnitDepth);
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const uint4 eight = from[i];
            uint32_t* pairs = activations.pairs + 4 * i;
            pairs[0] = eight.x, pairs[1] = eight.y, pairs[2] = eight.z, pairs[3] = eight.w;
          }
        }
        typename Format::Columns columns;
        Format::prepare(activations, columns);
#pragma unroll
        for (int s = 0; s < kStrips; ++s) Format::multiply(w[s], columns, sums[s][j]);
      }
    }

    for (int turn = 0; turn < kProductWaves; ++turn) {
      if (wave == turn) {
#pragma unroll
        for (int s = 0; s < kStrips; ++s)
#pragma unroll
          for (int j = 0; j < kTiles; ++j) {
            if (j >= used) continue;
#pragma unroll
            for (int i = 0; i < Core::kSums; ++i) {
              float* part = parts + (kTileColumns * j + column) * kPitch + s * kStripRows + Core::row(i);
              *part = turn == 0 ? sums[s][j][i] : *part + sums[s][j][i];
            }
          }
      }
      __syncthreads();  // this wave's part is there before the next one adds to it, and all before they are read
    }
    job.finish(item, live, {static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x)}, [&](int i, int row) {
      float total = 0;
      for (int term = 0; term < terms; ++term) total += parts[(i * terms + term) * kPitch + row];
      return total;
    });
    __syncthreads();  // the next item's parts may take these places
  }
#endif
}

}  // namespace gptoss::hip
