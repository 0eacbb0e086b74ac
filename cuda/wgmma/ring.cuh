// Weights and activations on their way: a ring of stages in shared memory, filled by a warpgroup ahead of the products.
//
// A stage is a unit of 64 columns of k: of the block's strips of weights, as they lie in memory, by bulk copies; and of its
// columns of activations, in rows of 128 bytes with the swizzle of 128 bytes: tokens by a tensor copy, pairs of an expert,
// which are gathered from anywhere, by cp.async.
// full[s]: all of a stage is there. empty[s]: all warps have read it.
// Tested by wgmma_product_test.cpp.
#pragma once

#include "fragments.cuh"
#include "ptx/bulk_copy.cuh"
#include "ptx/copy_async.cuh"
#include "ptx/tensor_copy.cuh"
#include "turn.cuh"

namespace gptoss::cuda::wgmma {

constexpr int kStrips = 8, kColumns = 128;  // of a block: 128 rows of weights, 128 tokens or pairs of an expert
constexpr int kConsumers = 256, kProducers = 128, kThreads = kConsumers + kProducers;
constexpr int kTileBytes = kColumns * cuda::kUnitDepth * 2, kRowBytes = cuda::kUnitDepth * 2;
constexpr int kLag = 2;  // stages that a producer has begun and not yet waited for
static_assert(kConsumers == 32 * kStrips, "a warp for each strip: its 16 rows are those that wgmma gives a warp");
static_assert(kRowBytes == 128, "a row of a tile is the width of the swizzle");

template <class Format>
struct Ring {
  static constexpr int kStages = Format::kStages, kWeightBytes = kStrips * Format::kUnitBytes;
  static constexpr size_t kBytes = size_t{kStages} * (kTileBytes + kWeightBytes + 2 * sizeof(uint64_t));
  static_assert(kLag < kStages, "a stage is full before the producer needs it again");

  uint8_t *tiles, *units;
  uint64_t *full, *empty;

  // Of kBytes at a multiple of 1024, of which the swizzle's pattern starts.
  GPTOSS_DEVICE explicit Ring(uint8_t* shared)
      : tiles(shared), units(tiles + kStages * kTileBytes),
        full(reinterpret_cast<uint64_t*>(units + kStages * kWeightBytes)), empty(full + kStages) {}

  GPTOSS_DEVICE void make(int arrivals) const {  // by one thread
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(&full[stage], arrivals);
      ptx::mbarrier_init(&empty[stage], kStrips);
    }
    ptx::fence_mbarrier_init();
  }
  GPTOSS_DEVICE void wait_until_empty(const Turn& turn) const {
    wait_for(&empty[turn.stage], turn.parity ^ 1);  // the turn before the first one counts as read
  }
  GPTOSS_DEVICE uint8_t* tile(int stage) const { return tiles + stage * kTileBytes; }
  GPTOSS_DEVICE uint8_t* unit(int stage, int strip) const {
    return units + stage * kWeightBytes + strip * Format::kUnitBytes;
  }
};

// What a block multiplies at a time: strips [strip, strip + strips) of the matrix by one tile of columns.
struct Work {
  int strip, strips, tile;
};

// Work number i. Tiles of columns are taken together by 16, so that their activations and the weights that they meet stay
// in the second-level cache while the card's blocks go over them.
template <class Job>
GPTOSS_DEVICE Work work_at(const Job& job, int i) {
  constexpr int kTogether = 16;
  const int strips = job.parts(), rows = (strips + kStrips - 1) / kStrips, tiles = job.column_tiles();
  const int first = i / (kTogether * rows) * kTogether, together = min(kTogether, tiles - first);
  const int inside = i - first * rows, strip = inside / together * kStrips;
  return {strip, min(kStrips, strips - strip), first + inside % together};
}
template <class Job>
GPTOSS_DEVICE int work_count(const Job& job) {
  return (job.parts() + kStrips - 1) / kStrips * job.column_tiles();
}

// A job whose columns are one row of x behind the other.
template <class Job>
struct Contiguous : Job {
  CUtensorMap rows;  // of x, in boxes of a unit by kColumns
};
template <class Job>
constexpr bool is_contiguous = false;
template <class Job>
constexpr bool is_contiguous<Contiguous<Job>> = true;

// For a stage: one arrival announces all bytes of copies; those of cp.async are each producer's to report.
template <class Job>
constexpr int kArrivals = is_contiguous<Job> ? 1 : 1 + kProducers;

// What a thread of the first producers' warp does for the weights: it brings one of the strips.
template <class Format>
struct StripCopy {
  const uint8_t* from = nullptr;
  template <class Job>
  GPTOSS_DEVICE StripCopy(const Job& job, const Work& work, int thread) {
    if (thread < work.strips) from = job.weights(job.item(work.strip + thread, work.tile));
  }
  GPTOSS_DEVICE void operator()(const Ring<Format>& ring, int stage, int unit, int thread) const {
    if (from == nullptr) return;
    ptx::bulk_load(ring.unit(stage, thread), from + unit * Format::kUnitBytes, Format::kUnitBytes, &ring.full[stage]);
  }
};

// By one warp: all that the block multiplies.
template <class Format, class Job>
GPTOSS_DEVICE void produce(const Contiguous<Job>& job, const Ring<Format>& ring, int thread) {
  if (thread >= simt::kWarp) return;
  const int units = job.depth() / cuda::kUnitDepth, count = work_count(job);
  Turn turn;
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const Work work = work_at(job, i);
    const int item = job.item(work.strip, work.tile);
    if (job.sources(item) <= 0) continue;
    const StripCopy<Format> copy_strip(job, work, thread);
    for (int unit = 0; unit < units; ++unit) {
      ring.wait_until_empty(turn);
      if (thread == 0) {
        ptx::mbarrier_arrive_expect_tx(&ring.full[turn.stage], work.strips * Format::kUnitBytes + kTileBytes);
        ptx::tensor_load_2d(ring.tile(turn.stage), &job.rows, unit * cuda::kUnitDepth, job.first(item), &ring.full[turn.stage]);
      }
      copy_strip(ring, turn.stage, unit, thread);
      turn.template advance<Ring<Format>::kStages>();
    }
  }
}

// By a warpgroup, whose threads bring 16 bytes of every 16th row of a tile each.
template <class Format, class Job>
GPTOSS_DEVICE void produce(const Job& job, const Ring<Format>& ring, int thread) {
  constexpr int kPieces = kRowBytes / 16, kRowStep = kProducers / kPieces, kRows = kColumns / kRowStep;
  static_assert(kRowStep % 8 == 0, "all rows of a thread have the same place in the swizzle's pattern");
  const int piece = thread % kPieces, first_row = thread / kPieces;
  const int at_in_tile = first_row * kRowBytes + (piece ^ first_row % 8) * 16;
  const int units = job.depth() / cuda::kUnitDepth, count = work_count(job);
  const uint4* const x = reinterpret_cast<const uint4*>(job.x().terms) + piece;

  Turn turn, begun;  // of the next stage, and of the oldest one that is not yet handed over
  int pending = 0;
  const auto hand_over = [&] {  // when this thread's copies for it are there
    ptx::fence_proxy_async();   // wgmma reads what cp.async wrote
    ptx::mbarrier_arrive(&ring.full[begun.stage]);
    begun.template advance<Ring<Format>::kStages>();
    --pending;
  };
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const Work work = work_at(job, i);
    const int item = job.item(work.strip, work.tile), live = job.sources(item);
    if (live <= 0) continue;
    uint32_t row_at[kRows];  // in units of 16 bytes
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      row_at[r] = static_cast<uint32_t>(job.source(item, min(first_row + r * kRowStep, live - 1))) * (job.depth() / 8);
    const StripCopy<Format> copy_strip(job, work, thread);

    for (int unit = 0; unit < units; ++unit) {
      ring.wait_until_empty(turn);
      if (thread == 0) ptx::mbarrier_arrive_expect_tx(&ring.full[turn.stage], work.strips * Format::kUnitBytes);
      copy_strip(ring, turn.stage, unit, thread);
      uint8_t* const tile = ring.tile(turn.stage) + at_in_tile;
#pragma unroll
      for (int r = 0; r < kRows; ++r)  // columns beyond the live ones keep what was there: nobody looks at their sums
        if (first_row + r * kRowStep < live) ptx::cp_async_16(tile + r * kRowStep * kRowBytes, x + row_at[r] + unit * kPieces);
      ptx::cp_async_commit_group();
      turn.template advance<Ring<Format>::kStages>();
      if (++pending <= kLag) continue;
      ptx::cp_async_wait_group<kLag>();
      hand_over();
    }
  }
  ptx::cp_async_wait_group<0>();
  while (pending > 0) hand_over();
}

}  // namespace gptoss::cuda::wgmma
