// choice, weight (tokens, chosen) = the largest router logits, lowest id on ties, and their softmax; then
// pairs (tokens * chosen) of token and rank, grouped by expert and cut into tiles {expert, first, count}
//
// choose: a warp per token, a lane for every kWarp-th expert. group_pairs: one block. route_few
// does both in one block.
// Bound by latency; grouping reads tokens * chosen * 4 bytes twice for each expert, from cache.
// Sums in order of rank; the grouping is a stable sort by counts and needs no atomics.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "dot.cuh"

namespace gptoss::simt {

using sampling::sort_key;

// By a warp.
GPTOSS_DEVICE void choose_for(const RouteArgs& a, int token) {
  const float* logits = a.logits + static_cast<size_t>(token) * a.experts;
  int32_t* choice = a.choice + static_cast<size_t>(token) * a.chosen;
  float* weight = a.weight + static_cast<size_t>(token) * a.chosen;

  uint64_t taken = 0;  // keys up to this one are chosen already
  float largest = 0, sum = 0;
  for (int rank = 0; rank < a.chosen; ++rank) {
    uint64_t best = ~uint64_t{0};
    for (int e = lane(); e < a.experts; e += kWarp) {
      const uint64_t key = sort_key(logits[e], static_cast<uint32_t>(e));
      if (key < best && (rank == 0 || key > taken)) best = key;
    }
#pragma unroll
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const uint64_t other = shuffle_xor(best, mask);
      best = other < best ? other : best;
    }
    taken = best;
    const int expert = static_cast<int>(static_cast<uint32_t>(best));
    if (rank == 0) largest = logits[expert];
    const float unscaled = expf(logits[expert] - largest);
    sum += unscaled;
    if (lane() == 0) choice[rank] = expert, weight[rank] = unscaled;
  }
  if (lane() == 0)
    for (int rank = 0; rank < a.chosen; ++rank) weight[rank] /= sum;
}

__global__ void __launch_bounds__(kBlockThreads) choose(RouteArgs a) {
  wait_for_predecessors();
  if (global_warp() < a.live->tokens) choose_for(a, global_warp());
}

// By a block: a thread for each expert and part of the pairs.
GPTOSS_DEVICE void group(const GroupArgs& a, int32_t* shared) {
  const int threads = static_cast<int>(blockDim.x), parts = group_parts(a.experts, threads);
  const int pairs = a.live->tokens * a.chosen, part_pairs = (pairs + parts - 1) / parts;
  int32_t *first = shared, *first_tile = shared + a.experts, *before = shared + 2 * a.experts;  // (parts, experts)

  for (int i = threadIdx.x; i < parts * a.experts; i += threads) {
    const int e = i % a.experts, begin = i / a.experts * part_pairs, end = min(begin + part_pairs, pairs);
    int count = 0;
#pragma unroll 4
    for (int p = begin; p < end; ++p) count += a.choice[p] == e;
    before[i] = count;
  }
  __syncthreads();  // all counts are there
  for (int e = threadIdx.x; e < a.experts; e += threads) {
    int sum = 0;
    for (int part = 0; part < parts; ++part) {
      const int count = before[part * a.experts + e];
      before[part * a.experts + e] = sum;
      sum += count;
    }
    first[e] = sum;
  }
  __syncthreads();  // sums of the experts are there
  if (threadIdx.x == 0) {
    int pair = 0, tile = 0;
    for (int e = 0; e < a.experts; ++e) {
      const int count = first[e];
      first[e] = pair;
      first_tile[e] = tile;
      pair += count;
      tile += (count + a.tile - 1) / a.tile;
    }
    *a.tile_count = tile;
  }
  __syncthreads();  // sums have become places
  for (int i = threadIdx.x; i < parts * a.experts; i += threads) {
    const int e = i % a.experts, begin = i / a.experts * part_pairs, end = min(begin + part_pairs, pairs);
    int at = first[e] + before[i];
    for (int p = begin; p < end; ++p)
      if (a.choice[p] == e) a.pairs[at++] = p;
  }
  for (int e = threadIdx.x; e < a.experts; e += threads) {
    const int end = e + 1 < a.experts ? first[e + 1] : pairs;
    for (int from = first[e], tile = first_tile[e]; from < end; from += a.tile, ++tile)
      a.tiles[tile] = {e, from, min(a.tile, end - from)};
  }
}

__global__ void __launch_bounds__(1024) group_pairs(GroupArgs a) {
  GPTOSS_DYNAMIC_SHARED(int32_t, shared);
  wait_for_predecessors();
  group(a, shared);
}

// Both, for so few tokens that a launch would take longer.
__global__ void __launch_bounds__(1024, 1) route_few(RouteFewArgs a) {
  GPTOSS_DYNAMIC_SHARED(int32_t, shared);
  wait_for_predecessors();
  for (int token = warp(); token < a.route.live->tokens; token += static_cast<int>(blockDim.x) / kWarp)
    choose_for(a.route, token);
  __syncthreads();  // all choices are there
  group(a.group, shared);
}

}  // namespace gptoss::simt
