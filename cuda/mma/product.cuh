// y (columns, rows) = W (rows, k) x (columns, k)', by mma.sync: a stream of weights past a few columns of activations
//
// An item is a strip of 16 rows times up to 8 kTiles columns: bf16 terms of tokens, or of an expert's pairs. Blocks take
// items in turn, so that a warp's ring of weights runs on from one to the next. In an item each of eight warps sums a
// fixed part of k; their sums meet in shared memory in ascending order, then the terms of a token.
// Bound by reading W once for every kTiles * 8 columns (qkv of the 20b: 29 MB, an expert: 13.2 MB); activations come
// from L1, 2 KB a unit of weights and tile of columns.
// An element depends on its row and its own column only, whatever else is in the item; no atomics.
// Tested by mma_product_test.cpp (faults), test_matrix_kernels.py (in the engine) and test_ops.py.
#pragma once

#include <type_traits>

#include "architecture.cuh"
#include "jobs.cuh"
#include "weight_ring.cuh"

namespace gptoss::cuda {

constexpr int kColumnPitch = 20;  // floats of a column of 16 rows: lanes of a fragment meet no bank twice

// The widest item, in tiles of eight columns; some jobs are for few columns only.
template <class Job>
constexpr int most_tiles() {
  if constexpr (requires { Job::kMostTiles; })
    return Job::kMostTiles;
  else
    return 6;  // more would not leave registers enough for two blocks of a multiprocessor
}

template <class Format, int kTiles>
struct ProductShape {
  // Blocks that share a multiprocessor, as far as registers go: 80 or 128 of them.
  static constexpr int kBlocks = kTiles <= 2 ? 3 : 2;
  // With 32 columns and more there is less to wait for at a time, and more to be kept in shared memory beside it.
  static constexpr size_t kRingBytes = (kTiles <= 2 ? 64 : 32) * 1024;
  static constexpr int kStages = static_cast<int>(kRingBytes / kProductWarps / Format::kSlotBytes);
  static constexpr size_t kPartialBytes = size_t{kProductWarps} * 8 * kTiles * kColumnPitch * sizeof(float);
  static constexpr size_t kScaleBytes = kFewTokens * sizeof(float);
  static constexpr size_t kShared = kProductWarps * kStages * Format::kSlotBytes + kPartialBytes + kScaleBytes;
  static_assert(kStages >= 2, "one unit is read while another is on its way");
  static_assert(kShared <= 99 * 1024, "what every card since sm_80 has for a block");
};

template <class Format, int kTiles, class Job>
GPTOSS_DEVICE void multiply(const Job& job, const Team& team, uint8_t* shared) {
  using Shape = ProductShape<Format, kTiles>;
  float* const partial = reinterpret_cast<float*>(shared + kProductWarps * Shape::kStages * Format::kSlotBytes);
  float* const scales = partial + Shape::kPartialBytes / sizeof(float);  // of a norm's rows
  const int warp = simt::warp(), g = simt::lane() / 4, t = simt::lane() % 4;
  const int units = job.depth() / kUnitDepth, first = warp * units / kProductWarps, end = (warp + 1) * units / kProductWarps;

  if constexpr (!Job::kKnowsWeights) simt::wait_for_predecessors();
  const int items = job.items();
  WeightRing<Format, Job, Shape::kStages> ring(shared + warp * Shape::kStages * Format::kSlotBytes, job, team, first, end,
                                               items);
  if constexpr (Job::kKnowsWeights) simt::wait_for_predecessors();
  if constexpr (kIsNormed<Job>) job.begin(team, partial, scales);

  for (int item = team.block; item < items; item = next_item(job, item, team)) {
    const int live = job.sources(item), terms = job.x().count;
    std::conditional_t<kIsNormed<Job>, NormedActivations<kTiles>, typename Format::template Columns<kTiles>> x;
    x.used = (live * terms + 7) / 8;
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const int column = 8 * j + g;
      x.set(j, job, job.source(item, min(column / terms, max(live - 1, 0))), column % terms, first * kUnitDepth + 8 * t, scales);
    }
    float sums[kTiles][4] = {};
#pragma unroll 1
    for (int unit = first; unit < end; ++unit) Format::multiply(ring.next(), x, sums);

    float* mine = partial + warp * 8 * kTiles * kColumnPitch;
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int n = 0; n < 4; ++n)
        if (j < x.used) mine[(8 * j + 2 * t + n % 2) * kColumnPitch + g + n / 2 * 8] = sums[j][n];
    __syncthreads();  // all parts of k are there
    job.finish(item, live, {static_cast<int>(threadIdx.x), kProductThreads}, [&](int i, int row) {
      float total = 0;
      for (int term = 0; term < terms; ++term) {
        const float* column = partial + (i * terms + term) * kColumnPitch + row;
        float sum = column[0];
#pragma unroll
        for (int w = 1; w < kProductWarps; ++w) sum += column[w * 8 * kTiles * kColumnPitch];
        total += sum;
      }
      return total;
    });
    __syncthreads();  // the next item's parts may take these places
  }
  if constexpr (requires { job.end(team, partial); }) job.end(team, partial);
}

template <class Format, int kTiles, class Job>
__global__ void __launch_bounds__(kProductThreads, ProductShape<Format, kTiles>::kBlocks) mma_product(const Job job) {
#if GPTOSS_HAS_MMA
  if constexpr (!Format::kCompiled) return;
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  multiply<Format, kTiles>(job, {static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x)}, shared);
#endif
}

// Both in one kernel, for few tokens: the last blocks have the router's weights already when the first ones, that add to
// the residual, are ready.
struct OutRouteJob {
  LinearJob out;
  RouteJob route;
};
template <int kTiles>
__global__ void __launch_bounds__(kProductThreads, ProductShape<Bf16Units, kTiles>::kBlocks) mma_attn_out_route(const OutRouteJob both) {
#if GPTOSS_HAS_MMA
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  const int block = blockIdx.x, outs = both.route.attn_out_blocks;
  if (block < outs) {
    multiply<Bf16Units, kTiles>(both.out, {block, outs}, shared);
    count_block(both.route.awaited);
  } else {
    multiply<Bf16Units, kTiles>(both.route, {block - outs, static_cast<int>(gridDim.x) - outs}, shared);
  }
#endif
}

}  // namespace gptoss::cuda
