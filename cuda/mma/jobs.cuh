// What the products of cuda/mma are made of beyond csrc/simt/product_jobs.cuh: stages that are one kernel for few tokens.
// Those of cuda/wgmma are LinearJob, QkvJob, UpJob and DownJob, too.
//
//   QkvJob       the product, then rotation and the cache
//   Normed<Job>  rmsnorm of the rows before it; they are never written
//   RouteJob     rmsnorm, which is written for the experts; the router's logits; then, in the last block, choice and grouping
//   DownSumJob   the experts' outputs, then their weighted sum onto the residual
//
// All give the bits of the kernels that they stand for, which run where there are more tokens.
// Tested by mma_product_test.cpp, mma_few_test.cpp and test_matrix_kernels.py.
#pragma once

#include "norm.cuh"
#include "simt/combine.cuh"
#include "simt/product_jobs.cuh"
#include "simt/qkv.cuh"
#include "simt/routing.cuh"
#include "team.cuh"
#include "weights.cuh"

namespace gptoss::cuda {

constexpr int kProductWarps = 8, kProductThreads = 32 * kProductWarps;

using LinearJob = simt::LinearJob<Layout>;
using UpJob = simt::UpJob<Layout>;
using DownJob = simt::DownJob<Layout>;

// Of qkv, whose strips hold rotated pairs (see RowPlace): queries turned, keys and values in their pages.
template <class Kv>
struct QkvJob : LinearJob {
  AppendArgs append;

  template <class Sum>
  GPTOSS_DEVICE void finish(int item, int live, const simt::Workers& workers, const Sum& sum) const {
    constexpr int kPairs = kStripRows / 2;
    const int half = append.head_dim / 2, strips = append.head_dim / kStripRows, strip = item / tiles;
    const int head = strip / strips, head_row = head * append.head_dim;
    for (int e = workers.rank; e < live * kPairs; e += workers.size) {
      const int i = e / kPairs, p = e % kPairs, j = strip % strips * kPairs + p;
      simt::rotate_append_pair<Kv>(append, first(item) + i, head, j, sum(i, p) + a.bias[head_row + j],
                                   sum(i, p + kPairs) + a.bias[head_row + j + half]);
    }
  }
};

// A row is read by every block, as float32: worth it for a token or two, and where there are few blocks.
template <class Job, int kRows>
struct Normed : Job {
  static constexpr int kNormRows = kRows, kMostTiles = 1;
  NormArgs norm;
  int norm_threads;  // of a block of rmsnorm

  GPTOSS_DEVICE void begin(const Team&, float* slots, float* scales) const {
    find_scales<kRows>(norm, norm_threads, min(*norm.count, kRows), slots, scales);
  }
};
template <class Job>
constexpr bool kIsNormed = requires { Job::kNormRows; };

template <class Kv>
using NormedQkvJob = Normed<QkvJob<Kv>, 2>;

struct RouteJob : Normed<LinearJob, kFewTokens> {
  RouteFewArgs route;
  unsigned* arrived;
  unsigned* awaited = nullptr;  // blocks of attn_out, where they are in this kernel, too
  int attn_out_blocks = 0;

  // Also the experts' activations, shared out among the blocks.
  GPTOSS_DEVICE void begin(const Team& team, float* slots, float* scales) const {
    if (awaited) wait_for_blocks(awaited, attn_out_blocks);
    Normed::begin(team, slots, scales);
    const int size = norm.out.size, live = min(*norm.count, kFewTokens);
    for (int i = team.block * kProductThreads + threadIdx.x; i < live * size; i += team.blocks * kProductThreads) {
      const int row = i / size, column = i % size;
      simt::store_operand(norm.out, row, column, norm.x[i] * scales[row] * norm.gain[column]);
    }
  }
  GPTOSS_DEVICE void end(const Team& team, float* shared) const {
    int32_t* const slots = reinterpret_cast<int32_t*>(shared);
    if (!is_last_block(arrived, team.blocks, slots)) return;
    if (awaited && threadIdx.x == 0) atomicExch(awaited, 0u);  // nobody waits any more
    for (int token = simt::warp(); token < route.route.live->tokens; token += kProductWarps)
      simt::choose_for(route.route, token);
    __syncthreads();  // all choices are there
    simt::group(route.group, slots);
  }
};

// A block takes a strip of every tile, one behind the other; then it has all that is added to these rows of the residual.
struct DownSumJob : DownJob {
  static constexpr int kMostTiles = 4;
  CombineArgs total;

  GPTOSS_DEVICE int next(int item, const Team& team) const {
    if (item + parts() < items()) return item + parts();
    const int strip = item % parts() + team.blocks;
    return strip < parts() ? strip : items();
  }
  template <class Sum>
  GPTOSS_DEVICE void finish(int item, int live, const simt::Workers& workers, const Sum& sum) const {
    DownJob::finish(item, live, workers, sum);
    if (item + parts() < items()) return;  // the whole block: there are tiles to come
    __syncthreads();                       // what it has stored of all tiles is there
    for (int e = workers.rank; e < total.live->tokens * kRows; e += workers.size)
      simt::add_ranks(total, e / kRows, item % parts() * kRows + e % kRows);
  }
};

}  // namespace gptoss::cuda
