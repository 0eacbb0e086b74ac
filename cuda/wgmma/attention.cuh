// attn (tokens, heads, 64) = softmax(q k / 8, sink) v over the visible keys; lse: of a prefill, by wgmma, over bf16
//
// A block takes 192 queries of one KV head: with groups of 8 heads, 24 tokens. A warp of producers fills a ring with pages
// of 64 keys and their values, each by one tensor copy; three warpgroups, the attendants, take 64 queries each, in registers
// as A.
// Keys lie as (dimension, slot) and values as (slot, dimension): both are the B whose rows are those of k. The softmax runs
// in registers, in powers of two, and the weights of a page multiply its values while the next page's scores are made and
// weighed. The sink joins at the end.
// Pages that no token of the block sees are not copied, those that no token of a warpgroup sees not multiplied, and where
// each of its tokens sees all of a page there is no mask.
// Bound by the tensor cores, 256 FLOP for each query and key, and as much by the exponentials: for one a multiprocessor
// of Hopper takes as long as for 256 FLOP in bf16. Hence two pages at a time in a warpgroup, and three warpgroups. A page of
// 16 KB feeds 192 queries: 21 bytes from the second-level cache in a cycle; for 128 queries it would be 32, which is more
// than it is believed to have.
// Sums of a token depend on its own position only: pages are absolute and come in ascending order. They are those of
// cuda/mma's attn_prefill, in its order; so, if a card's wgmma and mma.sync add the 16 products of a step alike, results
// are the same to the bit.
// Tested by wgmma_attention_test.cpp (faults, and the bits of attn_prefill) and test_matrix_kernels.py (in the engine).
#pragma once

#include <climits>

#include "architecture.cuh"
#include "mma/queries.cuh"
#include "ptx/registers.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/wgmma.cuh"
#include "turn.cuh"

namespace gptoss::cuda::wgmma {

constexpr int kWarpgroup = 128, kWarpgroups = 3, kGroupQueries = 64, kQueries = kWarpgroups * kGroupQueries;
constexpr int kAttendants = kWarpgroups * kWarpgroup;
constexpr int kAttnThreads = kAttendants + kWarpgroup;  // of the producers one warp works, the others give their registers
// Registers of a thread; the block has 128 for each when it starts, with which an attendant spills.
constexpr int kAttendantRegisters = 160, kBringerRegisters = 32;
static_assert(kAttendants * kAttendantRegisters + kWarpgroup * kBringerRegisters <= 64 * 1024);
constexpr int kPageStages = 4;
static_assert(kPageStages > 2, "a page is waited for while its warpgroup holds the two before it");
constexpr int kPageRowBytes = 128;  // a dimension of keys, or a slot of values
constexpr int kPageRows = cuda::kPageBytes / kPageRowBytes;
static_assert(kPageRows <= 256, "what a box of a tensor copy may have");

struct PrefillArgs {
  AttentionArgs a;
  CUtensorMap pages;  // the layer's part of the pool as rows of 64, in boxes of a head's page
};

struct PageRing {
  static constexpr size_t kBytes = size_t{kPageStages} * (cuda::kPageBytes + 2 * sizeof(uint64_t)) + sizeof(uint64_t);

  uint8_t* pages;
  uint64_t *full, *empty;  // of a stage: its page is there; all warps have read it
  uint64_t* landed;        // a page that is not full has come, and is not ready

  // Of kBytes at a multiple of 1024, of which the swizzle's pattern starts.
  GPTOSS_DEVICE explicit PageRing(uint8_t* shared)
      : pages(shared), full(reinterpret_cast<uint64_t*>(pages + kPageStages * cuda::kPageBytes)), empty(full + kPageStages),
        landed(empty + kPageStages) {}

  GPTOSS_DEVICE void make() const {  // by one thread
    for (int stage = 0; stage < kPageStages; ++stage) {
      ptx::mbarrier_init(&full[stage], 1);
      ptx::mbarrier_init(&empty[stage], kAttendants / simt::kWarp);
    }
    ptx::mbarrier_init(landed, 1);
    ptx::fence_mbarrier_init();
  }
  GPTOSS_DEVICE uint8_t* page(int stage) const { return pages + stage * cuda::kPageBytes; }
  // By every warp of attendants, when its products with the page are complete.
  GPTOSS_DEVICE void release(int stage) const {
    if (simt::lane() == 0) ptx::mbarrier_arrive(&empty[stage]);
  }
};

// The tokens that a block takes.
struct Tile {
  int kv_head, group, first_token, live;
  GPTOSS_DEVICE explicit Tile(const AttentionArgs& a) : kv_head(blockIdx.x), group(a.heads / a.kv_heads) {
    const int tokens = kQueries / group;
    first_token = static_cast<int>(gridDim.y - 1 - blockIdx.y) * tokens;  // the last tokens have the most keys: they begin
    live = min(a.live->tokens - first_token, tokens);
  }
};

// By all lanes of a warp.
GPTOSS_DEVICE int lowest(int value) {
#pragma unroll
  for (int mask = simt::kWarp / 2; mask > 0; mask /= 2) value = min(value, simt::shuffle_xor(value, mask));
  return value;
}

// Which keys tokens [from, to) of a tile see, all of one sequence: some of them [first, end), each of them
// [all_first, all_end).
struct Seen {
  int first = INT_MAX, end = 0, all_first = 0, all_end = INT_MAX;
  GPTOSS_DEVICE Seen(const AttentionArgs& a, const Tile& tile, int from, int to) {  // by all lanes of a warp
    for (int i = from + simt::lane(); i < to; i += simt::kWarp) {
      const cuda::Visible keys(a.position[tile.first_token + i], a.window);
      first = min(first, keys.first), end = max(end, keys.end);
      all_first = max(all_first, keys.first), all_end = min(all_end, keys.end);
    }
    first = lowest(first), all_end = lowest(all_end);
    end = -lowest(-end), all_first = -lowest(-all_first);
  }
  GPTOSS_DEVICE int first_page() const { return first / cuda::kPage; }
  GPTOSS_DEVICE int end_page() const { return (end + cuda::kPage - 1) / cuda::kPage; }
};

// f(begin, end) for the tokens of each sequence of a tile, one after the other: nearly always one. By all lanes of a warp.
template <class F>
GPTOSS_DEVICE void for_each_sequence(const AttentionArgs& a, const Tile& tile, const F& f) {
  const int32_t* sequence = a.sequence + tile.first_token;
  for (int begin = 0, end; begin < tile.live; begin = end) {
    end = tile.live;
    for (int i = tile.live - 1 - simt::lane(); i > begin; i -= simt::kWarp)
      if (sequence[i] != sequence[begin]) end = i;
    end = lowest(end);
    f(begin, end);
  }
}

// --- The producers

GPTOSS_DEVICE void bring_pages(const PrefillArgs& args, const Tile& tile, const PageRing& ring) {
  const AttentionArgs& a = args.a;
  const size_t page_rows = a.kv.page_bytes / kPageRowBytes, head_row = tile.kv_head * (a.kv.head_bytes / kPageRowBytes);
  Turn turn;
  uint32_t landed_parity = 0;
  for_each_sequence(a, tile, [&](int begin, int end) {
    const Seen keys(a, tile, begin, end);
    const int32_t* table = a.kv.pages + static_cast<size_t>(a.sequence[tile.first_token + begin]) * a.kv.table_pages;
    for (int p = keys.first_page(); p < keys.end_page(); ++p) {
      wait_for(&ring.empty[turn.stage], turn.parity ^ 1);  // the turn before the first one counts as read
      const int live = keys.end - p * cuda::kPage;
      uint64_t* const arrived = live < cuda::kPage ? ring.landed : &ring.full[turn.stage];
      if (simt::lane() == 0) {
        ptx::mbarrier_arrive_expect_tx(arrived, cuda::kPageBytes);
        const int row = static_cast<int>(table[p] * page_rows + head_row);
        ptx::tensor_load_2d(ring.page(turn.stage), &args.pages, 0, row, arrived);
      }
      if (live < cuda::kPage) {
        // Slots behind were perhaps never written, and a weight of 0 times what is no number is none.
        wait_for(ring.landed, landed_parity);
        landed_parity ^= 1;
        uint4* const values = reinterpret_cast<uint4*>(ring.page(turn.stage) + cuda::kMatrixBytes);
        for (int i = live * 8 + simt::lane(); i < cuda::kPage * 8; i += simt::kWarp) values[i] = uint4{0, 0, 0, 0};
        ptx::fence_proxy_async();  // wgmma reads what this thread wrote
        simt::sync_warp();         // and what all have
        if (simt::lane() == 0) ptx::mbarrier_arrive(&ring.full[turn.stage]);
      }
      turn.template advance<kPageStages>();
    }
  });
}

// --- The attendants

// A warpgroup's queries. A thread has rows g and g + 8 of its warp's 16, and of each every eighth two slots or dimensions,
// 8 j + 2 t and + 1, in the order of an accumulator.
struct Attendant {
  const AttentionArgs& a;
  const Tile& tile;
  const PageRing& ring;
  const int t = simt::lane() % 4, row = simt::warp() * 16 + simt::lane() / 4;  // the first of the thread's rows in the block
  const float scale;
  const uint64_t pages;  // the first stage's descriptor
  Turn turn;
  uint32_t q[4][4];        // of 16 dimensions each
  float score[32], acc[32];
  uint32_t weights[4][4];  // of 16 slots each
  float m[2], l[2];        // m: of the scores times log2 e
  float keep[2];           // of what was summed before this page
  int first[2], end[2];    // visible keys

  GPTOSS_DEVICE Attendant(const AttentionArgs& a, const Tile& tile, const PageRing& ring)
      : a(a), tile(tile), ring(ring), scale(a.scale * cuda::kLog2E), pages(ptx::wgmma_descriptor_128b(ring.page(0))) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float* from = cuda::query(a, tile.first_token, tile.live, tile.kv_head, row + 8 * r) + 2 * t;
      m[r] = -INFINITY, l[r] = 0;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float x[2];
        simt::load_floats(from + 8 * j, x);
        q[j / 2][j % 2 * 2 + r] = ptx::cvt_bf16x2(x[0], x[1]);
      }
    }
#pragma unroll
    for (int i = 0; i < 32; ++i) acc[i] = 0;
  }

  GPTOSS_DEVICE void wait_for_page() const { wait_for(&ring.full[turn.stage], turn.parity); }
  GPTOSS_DEVICE int take_stage() {
    const int stage = turn.stage;
    turn.template advance<kPageStages>();
    return stage;
  }
  GPTOSS_DEVICE void pass_page() {  // which no token of the warpgroup sees
    wait_for_page();  // so that no warp is a whole turn ahead of the others
    ring.release(take_stage());
  }

  // The descriptor of what lies `bytes` behind the first stage's: addresses stay within their bits, so that the sum of the
  // lower words is enough.
  GPTOSS_DEVICE uint64_t rows_at(int bytes) const {
    return (pages & ~uint64_t{0xffffffff}) | (static_cast<uint32_t>(pages) + static_cast<uint32_t>(bytes) / 16);
  }
  GPTOSS_DEVICE void start_scores(int stage) {
    const int keys = stage * cuda::kPageBytes;
    ptx::wgmma_m64k16_bf16_rows_first<64>(score, q[0], rows_at(keys));
#pragma unroll
    for (int s = 1; s < 4; ++s) ptx::wgmma_m64k16_bf16_rows<64>(score, q[s], rows_at(keys + s * 16 * kPageRowBytes));
    ptx::wgmma_commit_group();
  }
  GPTOSS_DEVICE void start_values(int stage) {
    const int values = stage * cuda::kPageBytes + cuda::kMatrixBytes;
#pragma unroll
    for (int s = 0; s < 4; ++s) ptx::wgmma_m64k16_bf16_rows<64>(acc, weights[s], rows_at(values + s * 16 * kPageRowBytes));
    ptx::wgmma_commit_group();
  }

  // Scores become weights, in float32: powers of two, relative to the largest score so far.
  GPTOSS_DEVICE void weigh(int page, bool masked) {
    if (masked) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int from = first[r] - page * cuda::kPage - 2 * t, to = end[r] - page * cuda::kPage - 2 * t;
#pragma unroll
        for (int n = 0; n < 16; ++n) {
          float& x = score[n / 2 * 4 + 2 * r + n % 2];
          const int slot = n / 2 * 8 + n % 2;
          x = slot >= from && slot < to ? x : -INFINITY;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -INFINITY;
#pragma unroll
      for (int n = 0; n < 16; ++n) largest = fmaxf(largest, score[n / 2 * 4 + 2 * r + n % 2]);
#pragma unroll
      for (int mask = 1; mask < 4; mask *= 2) largest = fmaxf(largest, simt::shuffle_xor(largest, mask));
      float highest = fmaxf(m[r], largest * scale);
      if (highest == -INFINITY) highest = 0;  // nothing is visible so far: every weight is 0
      keep[r] = ptx::ex2(m[r] - highest);
      float part[2] = {};  // of even and odd slots: the order of attn_prefill, whose lanes have one of eight each
#pragma unroll
      for (int n = 0; n < 16; ++n) {
        float& x = score[n / 2 * 4 + 2 * r + n % 2];
        x = ptx::ex2(fmaf(x, scale, -highest));
        part[n % 2] += x;
      }
      float sum = part[0] + part[1];
#pragma unroll
      for (int mask = 1; mask < 4; mask *= 2) sum += simt::shuffle_xor(sum, mask);
      l[r] = l[r] * keep[r] + sum;
      m[r] = l[r] > 0 ? highest : -INFINITY;
    }
  }
  // When the products with earlier pages' values are complete.
  GPTOSS_DEVICE void pack_weights() {
#pragma unroll
    for (int i = 0; i < 32; ++i) acc[i] *= keep[i / 2 % 2];
#pragma unroll
    for (int s = 0; s < 4; ++s)
#pragma unroll
      for (int i = 0; i < 4; ++i) weights[s][i] = ptx::cvt_bf16x2(score[8 * s + 2 * i], score[8 * s + 2 * i + 1]);
  }

  // The tokens of one sequence.
  GPTOSS_DEVICE void attend(int begin, int end_token) {
    const int tokens = kGroupQueries / tile.group, from = simt::warp() / 4 * tokens, last = min(from + tokens, tile.live);
    const Seen all(a, tile, begin, end_token), mine(a, tile, max(begin, from), min(end_token, last));
    const bool alone = begin <= min(from, tile.live - 1) && end_token >= last;  // no row is another sequence's
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int i = min((row + 8 * r) / tile.group, tile.live - 1);
      const cuda::Visible keys(a.position[tile.first_token + i], a.window);
      first[r] = keys.first;
      end[r] = i >= begin && i < end_token ? keys.end : 0;
    }
    const auto masked = [&](int p) {
      return !(alone && p * cuda::kPage >= mine.all_first && (p + 1) * cuda::kPage <= mine.all_end);
    };

    int p = all.first_page();
    for (; p < min(mine.first_page(), all.end_page()); ++p) pass_page();
    if (p < mine.end_page()) {
      wait_for_page();
      ptx::wgmma_fence();  // queries are in their registers, and the last scores were read
      start_scores(turn.stage);
      int stage = take_stage();
      ptx::wgmma_wait_group<0>();
      weigh(p, masked(p));
      pack_weights();
      bool more = ++p < mine.end_page();
      if (more) wait_for_page();
      while (more) {
        ptx::wgmma_fence();  // weights and scaled sums are in their registers, and the last scores were read
        start_scores(turn.stage);
        start_values(stage);
        ptx::wgmma_wait_group<1>();  // the scores are there
        weigh(p, masked(p));         // while the tensor cores multiply the values
        const int weighed = take_stage();
        more = ++p < mine.end_page();
        if (more) wait_for_page();   // here, since ptxas moves a softmax behind a wait for products that comes next
        ptx::wgmma_wait_group<0>();  // the sums are there, and nobody reads the page of these values any more
        ring.release(stage);
        stage = weighed;
        pack_weights();
      }
      ptx::wgmma_fence();  // weights and scaled sums are in their registers
      start_values(stage);
      ptx::wgmma_wait_group<0>();  // of the last page
      ring.release(stage);
    }
    for (; p < all.end_page(); ++p) pass_page();
  }

  GPTOSS_DEVICE void store() const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int number = row + 8 * r, token = number / tile.group, head = tile.kv_head * tile.group + number % tile.group;
      if (token >= tile.live) continue;
      const size_t at = static_cast<size_t>(tile.first_token + token) * a.heads + head;
      const cuda::Total total(a, head, m[r], l[r]);
      if (t == 0) a.lse[at] = total.lse();
#pragma unroll
      for (int j = 0; j < 8; ++j)
        cuda::store_attn(a, at * cuda::kHeadDim + 8 * j + 2 * t, total(acc[4 * j + 2 * r]), total(acc[4 * j + 2 * r + 1]));
    }
  }
};

__global__ void __launch_bounds__(kAttnThreads, 1)
    wgmma_attn_prefill([[maybe_unused]] const __grid_constant__ PrefillArgs args) {
#if GPTOSS_HAS_WGMMA
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  const PageRing ring(shared);
  if (threadIdx.x == 0) ring.make();
  __syncthreads();  // the barriers are made
  simt::wait_for_predecessors();
  const Tile tile(args.a);
  if (tile.live <= 0) return;  // the whole block
  if (threadIdx.x >= kAttendants) {
    ptx::give_registers<kBringerRegisters>();
    if (threadIdx.x < kAttendants + simt::kWarp) bring_pages(args, tile, ring);
  } else {
    ptx::take_registers<kAttendantRegisters>();
    Attendant attendant(args.a, tile, ring);
    for_each_sequence(args.a, tile, [&](int begin, int end) { attendant.attend(begin, end); });
    attendant.store();
  }
#endif
}

}  // namespace gptoss::cuda::wgmma
