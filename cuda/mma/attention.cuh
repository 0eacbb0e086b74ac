// attn (tokens, heads, 64) = softmax(q k / 8, sink) v over the visible keys; lse: on mma.sync, queries and cache in bf16
//
// Scores are K q': keys are the rows of a product, queries its columns, so that the heads of one KV head fill the eight
// columns of a fragment; then V' times the softmax weights. A warp takes pages of 64 keys with all their values for its
// columns and keeps a running softmax, in powers of two; the sink joins at the end.
//   attn_decode: a block for each token, KV head and split of its pages; its four warps share the split's pages out. The
//   last block of a token and KV head merges its splits.
//   attn_merge_splits: does that where nobody counts the blocks, a warp for each token and head.
//   attn_prefill: a block for each 8 tokens (with groups of 8 heads) and KV head; its warps take columns, and share
//   pages, of which the next is copied while one is multiplied. Pages that no token of the block sees are not visited.
// Bound, decode: reading K and V, 256 bytes a key and KV head; prefill: the tensor cores, 256 FLOP for each query, head
// and key, and as many exponentials as keys.
// Sums of a token depend on its own position only: splits are made of absolute pages and are merged in ascending order.
// Tested by mma_attention_test.cpp (faults) and test_matrix_kernels.py.
#pragma once

#include "mma/attention_args.h"
#include "architecture.cuh"
#include "ptx/copy_async.cuh"
#include "ptx/matrix.cuh"
#include "queries.cuh"
#include "team.cuh"

namespace gptoss::cuda {

constexpr int kAttnWarps = 4, kAttnThreads = 32 * kAttnWarps;
constexpr int kPrefillTiles = 2;  // of eight columns, of a warp; in a decode, one
constexpr int kMostSplits = 32;
constexpr int kStateFloats = 2 + kHeadDim;  // of a column: maximum, sum, values

// Rows of 128 bytes: a unit of 16 lies where ldmatrix, which reads eight rows at a time, meets no bank twice.
GPTOSS_DEVICE int swizzled(int row, int unit) { return row * 128 + (unit ^ row % 8) * 16; }

// Enqueues the copy of a page by `threads` threads, of which this is the one of that number. Slots from `live` on were
// perhaps never written: values there are zeros, and of keys at most what shares 16 bytes with a live one is read.
GPTOSS_DEVICE void copy_page(uint8_t* to, const uint16_t* keys, int live, int thread, int threads) {
  for (int i = thread; i < kPageBytes / 16; i += threads) {
    const int row = i % 512 / 8, unit = i % 8;
    const bool valid = i < 512 ? unit * 8 < live : row < live;  // keys: a row is a dimension; values: a row is a slot
    ptx::cp_async_16_or_zero(to + i / 512 * kMatrixBytes + swizzled(row, unit), keys + (valid ? i * 8 : 0), valid);
  }
}

// Queries of 8 kTiles columns as rows of shared memory, in bf16 with the swizzle.
GPTOSS_DEVICE void store_queries(uint8_t* to, const AttentionArgs& a, int first_token, int live, int kv_head, int columns,
                                 int thread, int threads) {
  for (int i = thread; i < columns * 8; i += threads) {
    const int column = i / 8, unit = i % 8;
    float x[8];
    simt::load_floats(query(a, first_token, live, kv_head, column) + unit * 8, x);
    uint4 words;
    uint32_t* word = &words.x;
#pragma unroll
    for (int n = 0; n < 4; ++n) word[n] = ptx::cvt_bf16x2(x[2 * n], x[2 * n + 1]);
    *reinterpret_cast<uint4*>(to + swizzled(column, unit)) = words;
  }
}

// The running softmax of a warp's columns. Lane 4 g + t has columns 8 j + 2 t and + 1; of the values, dimensions
// 16 s + g and + 8 as acc[s][j] in the order of an accumulator.
template <int kTiles>
struct ColumnSums {
  float m[kTiles][2], l[kTiles][2], acc[4][kTiles][4];  // m: of the scores times log2 e

  GPTOSS_DEVICE ColumnSums() {
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        m[j][i % 2] = -INFINITY;
        l[j][i % 2] = 0;
#pragma unroll
        for (int s = 0; s < 4; ++s) acc[s][j][i] = 0;
      }
  }

  // 64 keys more. `page`: in shared memory; `queries`: the warp's columns; column c sees slots [first[c], end[c]).
  GPTOSS_DEVICE void add_page(const uint8_t* page, const uint8_t* queries, const int (&first)[kTiles][2],
                              const int (&end)[kTiles][2], float scale) {
    const int lane = simt::lane(), g = lane / 4;
    float score[4][kTiles][4] = {};  // slots 16 s + g and + 8
#pragma unroll
    for (int step = 0; step < kHeadDim / 16; ++step) {
      uint32_t b[kTiles][2];
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
        ptx::ldmatrix_x2(b[j], queries + swizzled(8 * j + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        uint32_t a[4];  // keys lie as (dimension, slot): their rows are transposed
        ptx::ldmatrix_x4_trans(a, page + swizzled(16 * step + lane / 16 * 8 + lane % 8, 2 * s + lane / 8 % 2));
#pragma unroll
        for (int j = 0; j < kTiles; ++j) ptx::mma_m16n8k16_bf16(score[s][j], a, b[j]);
      }
    }

#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float largest = -INFINITY;
#pragma unroll
        for (int s = 0; s < 4; ++s)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int slot = 16 * s + 8 * half + g;
            float& x = score[s][j][2 * half + c];
            x = slot >= first[j][c] && slot < end[j][c] ? x : -INFINITY;
            largest = fmaxf(largest, x);
          }
#pragma unroll
        for (int mask = 4; mask < 32; mask *= 2) largest = fmaxf(largest, simt::shuffle_xor(largest, mask));
        float highest = fmaxf(m[j][c], largest * scale);
        if (highest == -INFINITY) highest = 0;  // nothing is visible so far: every weight is 0
        const float keep = ptx::ex2(m[j][c] - highest);
        float sum = 0;
#pragma unroll
        for (int s = 0; s < 4; ++s)
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            float& x = score[s][j][2 * half + c];
            x = ptx::ex2(fmaf(x, scale, -highest));
            sum += x;
            acc[s][j][2 * half + c] *= keep;
          }
#pragma unroll
        for (int mask = 4; mask < 32; mask *= 2) sum += simt::shuffle_xor(sum, mask);
        l[j][c] = l[j][c] * keep + sum;
        m[j][c] = l[j][c] > 0 ? highest : -INFINITY;
      }

#pragma unroll
    for (int s = 0; s < 4; ++s) {  // 16 slots a step
      uint32_t b[kTiles][2];
#pragma unroll
      for (int j = 0; j < kTiles; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
          b[j][half] = ptx::movmatrix_trans(ptx::cvt_bf16x2(score[s][j][2 * half], score[s][j][2 * half + 1]));
#pragma unroll
      for (int d = 0; d < 4; ++d) {
        uint32_t a[4];  // values lie as (slot, dimension)
        ptx::ldmatrix_x4_trans(a, page + kMatrixBytes + swizzled(16 * s + lane / 16 * 8 + lane % 8, 2 * d + lane / 8 % 2));
#pragma unroll
        for (int j = 0; j < kTiles; ++j) ptx::mma_m16n8k16_bf16(acc[d][j], a, b[j]);
      }
    }
  }

  // Of the lane's column 8 j + 2 t + c: f(dimension, value), for a quarter of the dimensions.
  template <class F>
  GPTOSS_DEVICE void each_dimension(int j, int c, const F& f) const {
#pragma unroll
    for (int d = 0; d < 4; ++d)
#pragma unroll
      for (int half = 0; half < 2; ++half) f(16 * d + 8 * half + simt::lane() / 4, acc[d][j][2 * half + c]);
  }
};

// A softmax over the states of parts, in ascending order; lane l has dimensions l and l + 32.
struct HeadSums {
  float m = -INFINITY, l = 0, acc[2] = {};

  GPTOSS_DEVICE void merge(const float* state) { merge_part(state[0], state[1], {state[2 + simt::lane()], state[34 + simt::lane()]}); }
  // Of consecutive states, some of which are loaded together.
  GPTOSS_DEVICE void merge(const float* states, int count) {
    constexpr int kTogether = 4;
    for (int from = 0; from < count; from += kTogether) {
      float highest[kTogether], sum[kTogether], values[kTogether][2];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const float* state = states + static_cast<size_t>(min(from + n, count - 1)) * kStateFloats;
        highest[n] = state[0], sum[n] = from + n < count ? state[1] : 0.0f;
        values[n][0] = state[2 + simt::lane()], values[n][1] = state[34 + simt::lane()];
      }
#pragma unroll
      for (int n = 0; n < kTogether; ++n) merge_part(highest[n], sum[n], values[n]);
    }
  }
  GPTOSS_DEVICE void merge_part(float part_highest, float part_sum, const float (&values)[2]) {
    if (part_sum == 0.0f) return;  // nothing was visible there
    const float highest = fmaxf(m, part_highest), keep = exp2f(m - highest), take = exp2f(part_highest - highest);
    m = highest;
    l = l * keep + part_sum * take;
#pragma unroll
    for (int i = 0; i < 2; ++i) acc[i] = acc[i] * keep + values[i] * take;
  }
  GPTOSS_DEVICE void finish(const AttentionArgs& a, int token, int head) const {
    const Total total(a, head, m, l);
    const size_t at = static_cast<size_t>(token) * a.heads + head;
    if (simt::lane() == 0) a.lse[at] = total.lse();
#pragma unroll
    for (int i = 0; i < 2; ++i) store_attn(a, at * kHeadDim + simt::lane() + 32 * i, total(acc[i]));
  }
};

// --- Decode

// A token's pages are cut into splits of a multiple of four pages: by its position alone.
struct Splits {
  int first_page, end_page, pages;  // of a split
  GPTOSS_DEVICE explicit Splits(const Visible& keys) : first_page(keys.first_page()), end_page(keys.end_page()) {
    const int rounds = (end_page - first_page + kAttnWarps - 1) / kAttnWarps;
    pages = (rounds + kMostSplits - 1) / kMostSplits * kAttnWarps;
  }
  GPTOSS_DEVICE int count() const { return (end_page - first_page + pages - 1) / pages; }
};
inline int most_splits(int pages) {
  const int rounds = (pages + kAttnWarps - 1) / kAttnWarps;
  return rounds < kMostSplits ? rounds : kMostSplits;
}

constexpr size_t kDecodeShared = size_t{kAttnWarps} * kPageBytes + 8 * 128 + kAttnWarps * 8 * kStateFloats * sizeof(float);

__global__ void __launch_bounds__(kAttnThreads, 3) attn_decode(MmaAttentionArgs args) {
#if GPTOSS_HAS_MMA
  const AttentionArgs& a = args.a;
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  uint8_t* const page = shared + simt::warp() * kPageBytes;
  uint8_t* const queries = shared + kAttnWarps * kPageBytes;
  float* const states = reinterpret_cast<float*>(queries + 8 * 128);  // (warps, 8 columns, kStateFloats)
  simt::wait_for_predecessors();

  const int token = blockIdx.x, kv_head = blockIdx.y, split = blockIdx.z, group = a.heads / a.kv_heads;
  if (token >= a.live->tokens) return;  // the whole block
  const Visible keys(a.position[token], a.window);
  const Splits splits(keys);
  if (split >= splits.count()) return;
  store_queries(queries, a, token, 1, kv_head, 8, threadIdx.x, kAttnThreads);
  __syncthreads();  // all queries are there

  // A quarter of the split's pages, one behind the other.
  const int mine = splits.pages / kAttnWarps, begin = splits.first_page + split * splits.pages + simt::warp() * mine;
  ColumnSums<1> sums;
  for (int p = begin; p < min(begin + mine, splits.end_page); ++p) {
    const simt::PageHead<uint16_t> head = simt::page_head<uint16_t>(a.kv, a.sequence[token], p, kv_head, kHeadDim);
    const int first = keys.first - p * kPage, end = keys.end - p * kPage;
    copy_page(page, head.keys, min(end, kPage), simt::lane(), 32);
    ptx::cp_async_commit_group();
    ptx::cp_async_wait_group<0>();
    __syncwarp();  // the other lanes' copies are there, too
    sums.add_page(page, queries, {{first, first}}, {{end, end}}, a.scale * kLog2E);
    __syncwarp();  // the next page may take this one's place
  }

  const int t = simt::lane() % 4;
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    float* state = states + (simt::warp() * 8 + 2 * t + c) * kStateFloats;
    if (simt::lane() < 4) state[0] = sums.m[0][c], state[1] = sums.l[0][c];
    sums.each_dimension(0, c, [&](int d, float value) { state[2 + d] = value; });
  }
  __syncthreads();  // the states of all warps are there
  const int first_head = kv_head * group;
  const auto partial = [&](int h, int part) {
    return args.partial + ((static_cast<size_t>(token) * a.heads + first_head + h) * kMostSplits + part) * kStateFloats;
  };
  for (int h = simt::warp(); h < group; h += kAttnWarps) {
    HeadSums total;
    for (int w = 0; w < kAttnWarps; ++w) total.merge(states + (w * 8 + h) * kStateFloats);
    if (splits.count() == 1) {
      total.finish(a, token, first_head + h);
      continue;
    }
    float* state = partial(h, split);
    if (simt::lane() == 0) state[0] = total.m, state[1] = total.l;
#pragma unroll
    for (int i = 0; i < 2; ++i) state[2 + simt::lane() + 32 * i] = total.acc[i];
  }
  if (splits.count() == 1 || args.arrived == nullptr) return;
  if (!is_last_block(args.arrived + token * a.kv_heads + kv_head, splits.count(), reinterpret_cast<int*>(queries))) return;
  for (int h = simt::warp(); h < group; h += kAttnWarps) {
    HeadSums total;
    total.merge(partial(h, 0), splits.count());
    total.finish(a, token, first_head + h);
  }
#endif
}

__global__ void __launch_bounds__(kAttnThreads) attn_merge_splits(MmaAttentionArgs args) {
#if GPTOSS_HAS_MMA
  const AttentionArgs& a = args.a;
  simt::wait_for_predecessors();
  const int warp = blockIdx.x * kAttnWarps + simt::warp(), token = warp / a.heads, head = warp % a.heads;
  if (token >= a.live->tokens) return;
  const Splits splits(Visible(a.position[token], a.window));
  if (splits.count() == 1) return;  // attn_decode has finished it
  HeadSums total;
  total.merge(args.partial + static_cast<size_t>(warp) * kMostSplits * kStateFloats, splits.count());
  total.finish(a, token, head);
#endif
}

// --- Prefill

constexpr int kPrefillColumns = kAttnWarps * 8 * kPrefillTiles;
constexpr size_t kPrefillShared = size_t{2} * kPageBytes + kPrefillColumns * 128;

__global__ void __launch_bounds__(kAttnThreads, 2) attn_prefill(MmaAttentionArgs args) {
#if GPTOSS_HAS_MMA
  const AttentionArgs& a = args.a;
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  uint8_t* const queries = shared + 2 * kPageBytes;
  simt::wait_for_predecessors();

  const int group = a.heads / a.kv_heads, tile_tokens = kPrefillColumns / group, kv_head = blockIdx.y;
  // The last tokens have the most keys: they begin.
  const int first_token = static_cast<int>(gridDim.x - 1 - blockIdx.x) * tile_tokens;
  const int live = min(a.live->tokens - first_token, tile_tokens);
  if (live <= 0) return;  // the whole block
  store_queries(queries, a, first_token, live, kv_head, kPrefillColumns, threadIdx.x, kAttnThreads);

  const int t = simt::lane() % 4, warp_column = simt::warp() * 8 * kPrefillTiles;
  ColumnSums<kPrefillTiles> sums;
  // Tokens of one sequence after the other: nearly always one.
  for (int begin = 0, end; begin < live; begin = end) {
    const int sequence = a.sequence[first_token + begin];
    int first_page = a.kv.table_pages, end_key = 0;
    for (end = begin; end < live && a.sequence[first_token + end] == sequence; ++end) {
      const Visible keys(a.position[first_token + end], a.window);
      first_page = min(first_page, keys.first_page());
      end_key = max(end_key, keys.end);
    }
    const int pages = (end_key + kPage - 1) / kPage;
    const auto copy = [&](int p) {
      if (p < pages) {
        const simt::PageHead<uint16_t> head = simt::page_head<uint16_t>(a.kv, sequence, p, kv_head, kHeadDim);
        copy_page(shared + p % 2 * kPageBytes, head.keys, min(end_key - p * kPage, kPage), threadIdx.x, kAttnThreads);
      }
      ptx::cp_async_commit_group();  // a group for each page, empty or not
    };
    int first[kPrefillTiles][2], last[kPrefillTiles][2];  // visible keys of the columns, on the page that comes next
#pragma unroll
    for (int j = 0; j < kPrefillTiles; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int i = (warp_column + 8 * j + 2 * t + c) / group;
        const Visible keys(a.position[first_token + min(i, live - 1)], a.window);
        const bool here = i >= begin && i < end;
        first[j][c] = keys.first - first_page * kPage;
        last[j][c] = here ? keys.end - first_page * kPage : 0;
      }
    copy(first_page);
    for (int p = first_page; p < pages; ++p) {
      copy(p + 1);
      ptx::cp_async_wait_group<1>();
      __syncthreads();  // everybody's copies of this page, and before the first one the queries, are there
      sums.add_page(shared + p % 2 * kPageBytes, queries + warp_column * 128, first, last, a.scale * kLog2E);
      __syncthreads();  // all have read it: the page after the next one may take its place
#pragma unroll
      for (int j = 0; j < kPrefillTiles; ++j)
#pragma unroll
        for (int c = 0; c < 2; ++c) first[j][c] -= kPage, last[j][c] -= kPage;
    }
  }

#pragma unroll
  for (int j = 0; j < kPrefillTiles; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int column = warp_column + 8 * j + 2 * t + c, head = kv_head * group + column % group;
      if (column / group >= live) continue;
      const size_t at = static_cast<size_t>(first_token + column / group) * a.heads + head;
      const Total total(a, head, sums.m[j][c], sums.l[j][c]);
      if (simt::lane() < 4) a.lse[at] = total.lse();
      sums.each_dimension(j, c, [&](int d, float value) { store_attn(a, at * kHeadDim + d, total(value)); });
    }
#endif
}

}  // namespace gptoss::cuda
