// attn (tokens, heads, head_dim) = softmax(q k / sqrt(head_dim), sink) v over the visible keys; lse: on
// matrix cores
//
// A block takes a few tokens and one KV head; the query heads of that group are columns, 16 to a wave. Page
// by page its keys and values are turned into shared memory, (slot, dimension) and (dimension, slot), so that
// both products read rows:
// scores are keys times queries, and what a column weighs is values times its softmax weights, in bf16 as in
// SIMT.
// A step may hold several sequences: a block goes through those of its tokens one by one.
// Bound by the matrix cores in a prefill, 4 * 64 * 64 FLOPs a head and page; by reading keys and values in a
// decode.
// A page's keys are one partial sum, pages merge in ascending order within splits of 16, splits in ascending
// order, by absolute positions: so a column's bits do not depend on the chunking, nor on splits having blocks
// of their own.
// Tested by hip_attention_test.cpp (faults) and test_matrix_kernels.py (in the engine).
#pragma once

#include "core.cuh"
#include "matrix/attention_args.h"
#include "simt/kv.cuh"
#include "simt/load.cuh"

namespace gptoss::hip {

constexpr int kHeadDim = 64, kSlots = kPageSlots;
constexpr int kSplitOfPages = 16;  // kSplitPages of backend.h, as SIMT cuts the keys
constexpr int kAttentionWaves = 4, kMostColumns = kAttentionWaves * kTileColumns;
constexpr int kRowPitch =
    kSlots + 8;  // bf16 numbers of a row in shared memory: lanes of a fragment meet no bank twice
static_assert(kHeadDim == kSlots, "keys, values and weights have rows of one length");

struct AttentionShared {
  uint16_t keys[kSlots][kRowPitch];      // (slot, dimension)
  uint16_t values[kHeadDim][kRowPitch];  // (dimension, slot)
  uint16_t queries[kAttentionWaves][kTileColumns][kRowPitch];
  uint16_t weights[kAttentionWaves][kTileColumns][kRowPitch];
};
static_assert(sizeof(AttentionShared) <= 65536, "what every card gives a block");

// What a kernel does: all of a query's keys; one split of them, into `partial`; or what the splits left
// there.
constexpr int kWhole = 0, kSplit = 1, kMerge = 2;

#if GPTOSS_HAS_MATRIX_CORE

constexpr int kStrips = kHeadDim / kStripRows;
// Of a row of 64 numbers a lane takes one run, group by group, which instructions take piece by piece.
constexpr int kLaneRun = kHeadDim / MatrixCore::kGroups, kRunSteps = kLaneRun / MatrixCore::kElements;

// A column's sums over some keys; of the values this lane holds the dimensions that the matrix core gives it.
struct ColumnSums {
  float m = -INFINITY, l = 0;
  MatrixCore::Sums acc[kStrips] = {};

  GPTOSS_DEVICE void merge(const ColumnSums& later) {
    if (later.l == 0.0f) return;  // nothing was visible there
    const float highest = fmaxf(m, later.m), keep = expf(m - highest), take = expf(later.m - highest);
    m = highest;
    l = l * keep + later.l * take;
#pragma unroll
    for (int r = 0; r < kStrips; ++r)
#pragma unroll
      for (int i = 0; i < MatrixCore::kSums; ++i) acc[r][i] = acc[r][i] * keep + later.acc[r][i] * take;
  }
};

// op over the lanes that hold the same column.
template <class Op>
GPTOSS_DEVICE float over_column(float value, const Op& op) {
#pragma unroll
  for (int mask = kTileColumns; mask < simt::kWarp; mask *= 2)
    value = op(value, simt::shuffle_xor(value, mask));
  return value;
}

// sums += rows (64, 64) times columns (16, 64): `row` is this lane's of the first strip, `column` its own
// column, both at this lane's run.
GPTOSS_DEVICE void multiply_rows(const uint16_t* row, const uint16_t* column,
                                 MatrixCore::Sums (&sums)[kStrips]) {
#pragma unroll 1
  for (int i = 0; i < kRunSteps; ++i) {  // one at a time: fragments of 16 would not all have registers
    MatrixCore::Fragment a, b;
    __builtin_memcpy(&b, column + i * MatrixCore::kElements, sizeof b);
#pragma unroll
    for (int r = 0; r < kStrips; ++r) {
      __builtin_memcpy(&a, row + r * kStripRows * kRowPitch + i * MatrixCore::kElements, sizeof a);
      MatrixCore::multiply(sums[r], a, b);
    }
  }
}

// What a lane knows of its column.
struct Column {
  int token, head, position, first_key;
  bool live;

  GPTOSS_DEVICE Column(const AttentionArgs& a, int first, int tile, int kv_head) {
    const int group = a.heads / a.kv_heads, at = simt::warp() * kTileColumns + simt::lane() % kTileColumns;
    live = at < tile * group && first + at / group < a.live->tokens;
    token = live ? first + at / group : first;
    head = kv_head * group + at % group;
    position = a.position[token];
    first_key = a.window > 0 ? max(0, position - a.window + 1) : 0;
  }
  // This lane's run of the query, where the products read it.
  GPTOSS_DEVICE void stage_query(const AttentionArgs& a, AttentionShared& shared) const {
    const int run = lane_group() * kLaneRun;
    const float* from =
        a.qkv + (static_cast<size_t>(token) * (a.heads + 2 * a.kv_heads) + head) * kHeadDim + run;
    uint16_t* to = &shared.queries[simt::warp()][simt::lane() % kTileColumns][run];
    if (simt::lane() / kTileColumns == lane_group())
      for (int i = 0; i < kLaneRun; ++i) to[i] = simt::float_to_bf16(from[i]);
  }
  GPTOSS_DEVICE size_t row(const AttentionArgs& a) const {
    return static_cast<size_t>(token) * a.heads + head;
  }
};

// A page to shared memory, by all threads. Outside of slots [first, last) it may never have been written: scores of such
// keys are masked, values are 0.
GPTOSS_DEVICE void stage_page(const simt::PageHead<uint16_t>& page, int first, int last,
                              AttentionShared& shared) {
  constexpr int kPieces = kSlots / 8;
  for (int c = threadIdx.x; c < kHeadDim * kPieces; c += blockDim.x) {
    const int row = c / kPieces, at = c % kPieces * 8;
    uint16_t keys[8], values[8];
    *reinterpret_cast<uint4*>(keys) = *reinterpret_cast<const uint4*>(page.keys + row * kSlots + at);
    *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(page.values + row * kHeadDim + at);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      shared.keys[at + i][row] = keys[i];
      shared.values[at + i][row] = row >= first && row < last ? values[i] : uint16_t{0};
    }
  }
}

// A page's visible keys, for columns that see this sequence; the page is in shared memory.
GPTOSS_DEVICE void page_sums(const AttentionArgs& a, const Column& column, bool sees, int page,
                             AttentionShared& shared, ColumnSums& sums) {
  const int lane_row = simt::lane() % kTileColumns, run = lane_group() * kLaneRun;
  uint16_t* const weights = shared.weights[simt::warp()][lane_row];
  MatrixCore::Sums scores[kStrips] = {};
  multiply_rows(&shared.keys[lane_row][run], &shared.queries[simt::warp()][lane_row][run], scores);

  const int first = sees ? column.first_key - page * kSlots : kSlots, last = column.position - page * kSlots;
  const auto visible = [&](int slot) { return slot >= first && slot <= last; };
  sums.m = -INFINITY;
#pragma unroll
  for (int r = 0; r < kStrips; ++r)
#pragma unroll
    for (int i = 0; i < MatrixCore::kSums; ++i) {
      scores[r][i] *= a.scale;
      if (visible(r * kStripRows + MatrixCore::row(i))) sums.m = fmaxf(sums.m, scores[r][i]);
    }
  sums.m = over_column(sums.m, [](float x, float y) { return fmaxf(x, y); });
#pragma unroll
  for (int r = 0; r < kStrips; ++r)
#pragma unroll
    for (int i = 0; i < MatrixCore::kSums; ++i) {
      const int slot = r * kStripRows + MatrixCore::row(i);
      const float weight = visible(slot) ? expf(scores[r][i] - sums.m) : 0.0f;
      sums.l += weight;
      weights[slot] = simt::float_to_bf16(weight);
    }
  sums.l = over_column(sums.l, [](float x, float y) { return x + y; });
  simt::sync_warp();  // all weights of the wave are there
  multiply_rows(&shared.values[lane_row][run], weights + run, sums.acc);
}

// The sink joins the softmax once, at the end: one more logit without a value.
GPTOSS_DEVICE void finish(const AttentionArgs& a, const Column& column, const ColumnSums& total) {
  const float sink = a.sinks[column.head], m = fmaxf(total.m, sink), keep = expf(total.m - m);
  const float l = total.l * keep + expf(sink - m);
  if (simt::lane() < kTileColumns) a.lse[column.row(a)] = m + logf(l);
#pragma unroll
  for (int r = 0; r < kStrips; ++r)
#pragma unroll
    for (int i = 0; i < MatrixCore::kSums; ++i) {
      const size_t at = column.row(a) * kHeadDim + r * kStripRows + MatrixCore::row(i);
      const float value = total.acc[r][i] * (keep / l);
      a.attn[at] = value;
      if (a.terms != nullptr) a.terms[at] = simt::float_to_bf16(value);  // what the next product multiplies
    }
}

// Of one split: m, l, and the sums.
GPTOSS_DEVICE float* partial_of(const AttentionArgs& a, const Column& column, int split) {
  return a.partial + (column.row(a) * a.splits + split) * (2 + kHeadDim);
}
GPTOSS_DEVICE void store_partial(float* to, const ColumnSums& sums) {
  if (simt::lane() < kTileColumns) to[0] = sums.m, to[1] = sums.l;
#pragma unroll
  for (int r = 0; r < kStrips; ++r)
#pragma unroll
    for (int i = 0; i < MatrixCore::kSums; ++i) to[2 + r * kStripRows + MatrixCore::row(i)] = sums.acc[r][i];
}
GPTOSS_DEVICE void load_partial(const float* from, ColumnSums& sums) {
  sums.m = from[0], sums.l = from[1];
#pragma unroll
  for (int r = 0; r < kStrips; ++r)
#pragma unroll
    for (int i = 0; i < MatrixCore::kSums; ++i)
      sums.acc[r][i] = from[2 + r * kStripRows + MatrixCore::row(i)];
}

#endif

template <int kPart>
__global__ void __launch_bounds__(kAttentionWaves* simt::kWarp)
    matrix_attention([[maybe_unused]] MatrixAttentionArgs args) {
#if GPTOSS_HAS_MATRIX_CORE
  GPTOSS_DYNAMIC_SHARED(AttentionShared, shared);
  const AttentionArgs& a = args.a;
  const int first = static_cast<int>(blockIdx.x) * args.tile, end = min(first + args.tile, a.live->tokens);
  const int kv_head = static_cast<int>(blockIdx.y);
  if (first >= end) return;  // a whole block
  const Column column(a, first, args.tile, kv_head);
  // Whether this wave has columns; without, it helps to move pages.
  [[maybe_unused]] const bool works = simt::warp() * kTileColumns < (end - first) * (a.heads / a.kv_heads);

  ColumnSums total;
  if constexpr (kPart == kMerge) {
    for (int split = column.first_key / kSlots / kSplitOfPages;
         split <= column.position / kSlots / kSplitOfPages; ++split) {
      ColumnSums sums;
      load_partial(partial_of(a, column, split), sums);
      total.merge(sums);
    }
  } else {
    column.stage_query(a, *shared);
    for (int from = first, to; from < end; from = to) {  // tokens of one sequence, and all that they see
      int lowest = a.position[from], highest = lowest;
      for (to = from + 1; to < end && a.sequence[to] == a.sequence[from]; ++to) {
        lowest = min(lowest, a.position[to]);
        highest = max(highest, a.position[to]);
      }
      lowest = a.window > 0 ? max(0, lowest - a.window + 1) : 0;
      const bool sees = column.live && column.token >= from && column.token < to;
      const int first_page = lowest / kSlots, end_page = highest / kSlots + 1;
      for (int split = first_page / kSplitOfPages; split * kSplitOfPages < end_page; ++split) {
        if (kPart == kSplit && split != static_cast<int>(blockIdx.z)) continue;
        ColumnSums part;
        const int last = min(end_page, (split + 1) * kSplitOfPages);
        for (int page = max(first_page, split * kSplitOfPages); page < last; ++page) {
          stage_page(simt::page_head<uint16_t>(a.kv, a.sequence[from], page, kv_head, kHeadDim),
                     max(lowest - page * kSlots, 0), min(highest + 1 - page * kSlots, kSlots), *shared);
          __syncthreads();  // the page is there, and so are all queries
          if (works) {
            ColumnSums sums;
            page_sums(a, column, sees, page, *shared, sums);
            part.merge(sums);
          }
          __syncthreads();  // all have read it: the next one, and its weights, may take their places
        }
        if (kPart == kSplit && sees) store_partial(partial_of(a, column, split), part);
        if constexpr (kPart == kWhole) total.merge(part);
      }
    }
  }
  if (kPart != kSplit && column.live) finish(a, column, total);
#endif
}

}  // namespace gptoss::hip
