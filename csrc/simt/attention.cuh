// attn (tokens, heads, head_dim) = softmax(q k / sqrt(head_dim), sink) v over the visible keys; lse
//
// A warp per token and head (and split, for few tokens of long contexts): a lane per key for scores, a lane per
// dimension for values; the softmax weights of a page pass through 256 bytes of shared memory.
// Bound by reading keys and values: 2 * head_dim * 2 bytes a key, from cache for the heads of a group.
// A page's keys are one partial sum, pages merge in ascending order within splits of 16, splits in ascending order:
// by absolute positions, so a token's result is the same in any chunking, with or without attn_split.
// Tested by test_gpu_device.py (windows at 127, 128, 129; chunks; splits).
#pragma once

#include "dot.cuh"
#include "kv.cuh"

namespace gptoss::simt {

constexpr int kLaneDims = (kMaxHeadDim + kWarp - 1) / kWarp;
constexpr int kLaneSlots = kPageSlots / kWarp;
static_assert(kPageSlots % kWarp == 0, "every lane takes the same number of slots");

// Running sums of one query; lane l holds dimensions l, l + kWarp, ... of acc.
struct Softmax {
  float m = -INFINITY;  // maximum of the scores
  float l = 0;          // sum of exp(score - m)
  float acc[kLaneDims] = {};

  GPTOSS_DEVICE void merge(const Softmax& later) {
    if (later.l == 0.0f) return;  // nothing was visible there
    const float highest = fmaxf(m, later.m);
    const float keep = expf(m - highest), take = expf(later.m - highest);
    m = highest;
    l = l * keep + later.l * take;
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) acc[i] = acc[i] * keep + later.acc[i] * take;
  }
};

// What one warp works on.
struct Query {
  int token, head, position, first_key;
  const float* q;
  GPTOSS_DEVICE Query(const AttentionArgs& a, int token, int head) : token(token), head(head) {
    position = a.position[token];
    first_key = a.window > 0 ? max(0, position - a.window + 1) : 0;
    q = a.qkv + (static_cast<size_t>(token) * (a.heads + 2 * a.kv_heads) + head) * a.head_dim;
  }
  GPTOSS_DEVICE int first_page() const { return first_key / kPageSlots; }
  GPTOSS_DEVICE int end_page() const { return position / kPageSlots + 1; }
};

// The page's visible keys as partial sums made from nothing. `weights`: 64 floats of the warp's own.
template <class Kv>
GPTOSS_DEVICE Softmax page_sums(const AttentionArgs& a, const Query& query, int page, float* weights) {
  const int group = a.heads / a.kv_heads, dim = a.head_dim;
  const PageHead<Kv> kv = page_head<Kv>(a.kv, a.sequence[query.token], page, query.head / group, dim);
  const int first = max(query.first_key - page * kPageSlots, 0);
  const int last = min(query.position + 1 - page * kPageSlots, kPageSlots);

  // What lies in slots that are not visible may never have been written: it is not read.
  float score[kLaneSlots];
#pragma unroll
  for (int i = 0; i < kLaneSlots; ++i) {
    const int slot = lane() + i * kWarp;
    score[i] = -INFINITY;
    if (slot < first || slot >= last) continue;
    float sum = 0;
    for (int from = 0; from < dim; from += kScoreBlock) {
      float chain = 0;
      for (int d = from; d < min(from + kScoreBlock, dim); ++d)
        chain = fmaf(query.q[d], to_float(kv.keys[d * kPageSlots + slot]), chain);
      sum += chain;
    }
    score[i] = sum * a.scale;
  }

  Softmax sums;
  sums.m = score[0];
#pragma unroll
  for (int i = 1; i < kLaneSlots; ++i) sums.m = fmaxf(sums.m, score[i]);
  sums.m = warp_max(sums.m);
#pragma unroll
  for (int i = 0; i < kLaneSlots; ++i) {
    const int slot = lane() + i * kWarp;
    const float weight = slot < first || slot >= last ? 0.0f : expf(score[i] - sums.m);
    sums.l += weight;
    weights[slot] = a.round_weights ? round_to_bf16(weight) : weight;
  }
  sums.l = warp_sum(sums.l);
  sync_warp();  // all weights are there

#pragma unroll
  for (int i = 0; i < kLaneDims; ++i) {
    const int d = lane() + i * kWarp;
    if (d >= dim) continue;
    for (int slot = first; slot < last; ++slot)
      sums.acc[i] = fmaf(weights[slot], to_float(kv.values[slot * dim + d]), sums.acc[i]);
  }
  sync_warp();  // the next page's weights may overwrite these
  return sums;
}

template <class Kv>
GPTOSS_DEVICE Softmax split_sums(const AttentionArgs& a, const Query& query, int split, float* weights) {
  Softmax sums;
  const int end = min(query.end_page(), (split + 1) * kPagesPerSplit);
  for (int page = max(query.first_page(), split * kPagesPerSplit); page < end; ++page)
    sums.merge(page_sums<Kv>(a, query, page, weights));
  return sums;
}

// The sink joins the softmax once, at the end: one more logit without a value.
GPTOSS_DEVICE void finish(const AttentionArgs& a, const Query& query, const Softmax& total) {
  const float sink = a.sinks[query.head];
  const float m = fmaxf(total.m, sink), keep = expf(total.m - m);
  const float l = total.l * keep + expf(sink - m);
  const size_t at = static_cast<size_t>(query.token) * a.heads + query.head;
  if (lane() == 0) a.lse[at] = m + logf(l);
#pragma unroll
  for (int i = 0; i < kLaneDims; ++i) {
    const int d = lane() + i * kWarp;
    if (d < a.head_dim) a.attn[at * a.head_dim + d] = total.acc[i] * (keep / l);
  }
}

template <class Kv>
__global__ void __launch_bounds__(kBlockThreads) attn(AttentionArgs a) {
  wait_for_predecessors();
  GPTOSS_DYNAMIC_SHARED(float, shared);
  if (global_warp() / a.heads >= a.live->tokens) return;  // a whole warp; none waits for another
  const Query query(a, global_warp() / a.heads, global_warp() % a.heads);
  Softmax total;
  for (int split = query.first_page() / kPagesPerSplit; split * kPagesPerSplit < query.end_page(); ++split)
    total.merge(split_sums<Kv>(a, query, split, shared + warp() * kPageSlots));
  finish(a, query, total);
}

// The same in two kernels: each split of each query by a warp of its own, and then their merge.
template <class Kv>
__global__ void __launch_bounds__(kBlockThreads) attn_split(AttentionArgs a) {
  wait_for_predecessors();
  GPTOSS_DYNAMIC_SHARED(float, shared);
  if (global_warp() / a.heads >= a.live->tokens) return;
  const Query query(a, global_warp() / a.heads, global_warp() % a.heads);
  const int split = static_cast<int>(blockIdx.y);
  if (split < query.first_page() / kPagesPerSplit || split * kPagesPerSplit >= query.end_page()) return;
  const Softmax sums = split_sums<Kv>(a, query, split, shared + warp() * kPageSlots);
  float* partial = a.partial + (static_cast<size_t>(global_warp()) * a.splits + split) * (2 + a.head_dim);
  if (lane() == 0) partial[0] = sums.m, partial[1] = sums.l;
#pragma unroll
  for (int i = 0; i < kLaneDims; ++i) {
    const int d = lane() + i * kWarp;
    if (d < a.head_dim) partial[2 + d] = sums.acc[i];
  }
}

__global__ void __launch_bounds__(kBlockThreads) attn_merge(AttentionArgs a) {
  wait_for_predecessors();
  if (global_warp() / a.heads >= a.live->tokens) return;
  const Query query(a, global_warp() / a.heads, global_warp() % a.heads);
  Softmax total;
  for (int split = query.first_page() / kPagesPerSplit; split * kPagesPerSplit < query.end_page(); ++split) {
    const float* partial = a.partial + (static_cast<size_t>(global_warp()) * a.splits + split) * (2 + a.head_dim);
    Softmax sums;
    sums.m = partial[0];
    sums.l = partial[1];
#pragma unroll
    for (int i = 0; i < kLaneDims; ++i) {
      const int d = lane() + i * kWarp;
      if (d < a.head_dim) sums.acc[i] = partial[2 + d];
    }
    total.merge(sums);
  }
  finish(a, query, total);
}

}  // namespace gptoss::simt
