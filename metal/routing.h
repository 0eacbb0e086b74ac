// What routing is made of: a token's choice by a SIMD group, and the grouping of all pairs by a threadgroup. See route.metal.
#pragma once

#include "port.h"

namespace gptoss {

using sampling::sort_key;

// By a warp.
inline void choose_for(constant RouteArgs& a, int token, uint lane) {
  device const float* logits = a.logits + static_cast<size_t>(token) * a.experts;
  device int32_t* choice = a.choice + static_cast<size_t>(token) * a.chosen;
  device float* weight = a.weight + static_cast<size_t>(token) * a.chosen;

  U64 taken = 0;  // keys up to this one are chosen already
  float largest = 0, sum = 0;
  for (int rank = 0; rank < a.chosen; ++rank) {
    U64 best = ~U64(0);
    for (int e = lane; e < a.experts; e += kWarp) {
      const U64 key = sort_key(logits[e], static_cast<uint32_t>(e));
      if (key < best && (rank == 0 || key > taken)) best = key;
    }
    for (ushort mask = kWarp / 2; mask > 0; mask /= 2) {
      const U64 other = shuffle_xor(best, mask);
      best = other < best ? other : best;
    }
    taken = best;
    const int expert = static_cast<int>(static_cast<uint32_t>(best));
    if (rank == 0) largest = logits[expert];
    const float unscaled = expf(logits[expert] - largest);
    sum += unscaled;
    if (lane == 0) choice[rank] = expert, weight[rank] = unscaled;
  }
  if (lane == 0)
    for (int rank = 0; rank < a.chosen; ++rank) weight[rank] /= sum;
}

// By a block: a thread for each expert and part of the pairs.
inline void group(constant GroupArgs& a, threadgroup int32_t* shared, int thread_index, int threads, uint lane,
                  uint warp) {
  const int parts = group_parts(a.experts, threads);
  const int pairs = a.live->tokens * a.chosen, part_pairs = (pairs + parts - 1) / parts;
  threadgroup int32_t *first = shared, *first_tile = shared + a.experts;
  threadgroup int32_t* before = shared + 2 * a.experts;  // (parts, experts)

  for (int i = thread_index; i < parts * a.experts; i += threads) {
    const int e = i % a.experts, begin = i / a.experts * part_pairs, end = min(begin + part_pairs, pairs);
    int count = 0;
    for (int p = begin; p < end; ++p) count += a.choice[p] == e;
    before[i] = count;
  }
  sync_block();  // all counts are there
  for (int e = thread_index; e < a.experts; e += threads) {
    int sum = 0;
    for (int part = 0; part < parts; ++part) {
      const int count = before[part * a.experts + e];
      before[part * a.experts + e] = sum;
      sum += count;
    }
    first[e] = sum;
  }
  sync_block();  // sums of the experts are there
  if (warp == 0) {  // sums of the experts before, by a warp: for few tokens this is the longest part
    int pairs_before = 0, tiles_before = 0;
    for (int begin = 0; begin < a.experts; begin += kWarp) {
      const int e = begin + lane, count = e < a.experts ? first[e] : 0, tiles = (count + a.tile - 1) / a.tile;
      const int pair = warp_sum_up_to(count, lane), tile = warp_sum_up_to(tiles, lane);
      if (e < a.experts) {
        first[e] = pairs_before + pair - count;
        first_tile[e] = tiles_before + tile - tiles;
      }
      pairs_before += shuffle(pair, kWarp - 1);
      tiles_before += shuffle(tile, kWarp - 1);
    }
    if (lane == 0) *a.tile_count = tiles_before;
  }
  sync_block();  // sums have become places
  for (int i = thread_index; i < parts * a.experts; i += threads) {
    const int e = i % a.experts, begin = i / a.experts * part_pairs, end = min(begin + part_pairs, pairs);
    int at = first[e] + before[i];
    for (int p = begin; p < end; ++p)
      if (a.choice[p] == e) a.pairs[at++] = p;
  }
  for (int e = thread_index; e < a.experts; e += threads) {
    const int end = e + 1 < a.experts ? first[e + 1] : pairs;
    for (int from = first[e], tile = first_tile[e]; from < end; from += a.tile, ++tile)
      a.tiles[tile] = ExpertTile{e, from, min(a.tile, end - from)};
  }
}

}  // namespace gptoss
