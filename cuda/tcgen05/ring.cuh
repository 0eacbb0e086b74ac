// Weights and activations on their way: a ring of stages in shared memory, filled by one warp ahead of the products.
//
// A stage is 128 columns of k: a block of weights, unpacked on the way to half-empty rows of 128 bytes (see tensor_load_2d),
// and its scales as they lie; the codes of kColumns pairs of a tile, which lie one behind the other; and their scales, a word
// of four for each pair, by cp.async to the place that a copy to tensor memory takes them from.
// full[s]: all of a stage is there. empty[s]: all products of it are done.
// Tested by tcgen05_product_test.cpp.
#pragma once

#include "mma/quantize.cuh"
#include "ptx/bulk_copy.cuh"
#include "ptx/copy_async.cuh"
#include "ptx/elect.cuh"
#include "ptx/tensor_copy.cuh"
#include "weights.cuh"
#include "wgmma/ring.cuh"

namespace gptoss::cuda::tcgen05 {

using cuda::wgmma::Turn;
using cuda::wgmma::wait_for;
using cuda::wgmma::Work;
using cuda::wgmma::work_at;
using cuda::wgmma::work_count;
static_assert(cuda::wgmma::kStrips * cuda::kStripRows == kBlockRows, "a piece of work is a block of rows by a tile of columns");

// A job of an expert, and where its operands lie.
template <class Job>
struct Blocks : Job {
  CUtensorMap weights;  // all experts' blocks, as rows of 128 codes
  CUtensorMap codes;    // of the pairs, (pairs, k)
  cuda::Mxfp8Rows pairs;
};

template <int kColumns>
struct Ring {
  static constexpr int kStages = kColumns <= 32 ? 8 : 4;
  static constexpr int kWeightBytes = kBlockRows * kBlockDepth, kTileBytes = kColumns * kBlockDepth;  // a byte for each
  static constexpr size_t kBytes = size_t{kStages} * (kWeightBytes + kTileBytes + 2 * kScaleBytes + 2 * sizeof(uint64_t));
  static constexpr int kLag = 2;  // stages that the warp has begun and not yet waited for
  static constexpr int kArrivals = simt::kWarp + 1;  // each lane's scales, and the announcement of all else
  static_assert(kColumns % 32 == 0 && kColumns <= 128, "a lane has a scale of every 32nd pair, of four at most");
  static_assert(kLag < kStages, "a stage is full before the warp needs it again");

  uint8_t *weights, *tiles, *weight_scales, *scales;
  uint64_t *full, *empty;

  // Of kBytes at a multiple of 1024, of which the swizzle's pattern starts.
  GPTOSS_DEVICE explicit Ring(uint8_t* shared)
      : weights(shared), tiles(weights + kStages * kWeightBytes), weight_scales(tiles + kStages * kTileBytes),
        scales(weight_scales + kStages * kScaleBytes), full(reinterpret_cast<uint64_t*>(scales + kStages * kScaleBytes)),
        empty(full + kStages) {}

  GPTOSS_DEVICE void make() const {  // by one thread
    for (int stage = 0; stage < kStages; ++stage) {
      ptx::mbarrier_init(&full[stage], kArrivals);
      ptx::mbarrier_init(&empty[stage], 1);
    }
  }
  GPTOSS_DEVICE void wait_until_empty(const Turn& turn) const {
    wait_for(&empty[turn.stage], turn.parity ^ 1);  // the turn before the first one counts as done
  }
};

// By one warp: all that the block multiplies.
template <int kColumns, class Job>
GPTOSS_DEVICE void load(const Blocks<Job>& job, const Ring<kColumns>& ring) {
  using Shape = Ring<kColumns>;
  const int k = job.depth(), blocks = blocks_along(k), count = work_count(job), lane = simt::lane();
  Turn turn, begun;  // of the next stage, and of the oldest one that is not yet handed over
  int pending = 0;
  const auto hand_over = [&] {  // when this lane's scales of it are there
    ptx::fence_proxy_async();   // tensor memory takes what cp.async wrote
    ptx::mbarrier_arrive(&ring.full[begun.stage]);
    begun.template advance<Shape::kStages>();
    --pending;
  };
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const Work work = work_at(job, i);
    const ExpertTile tile = job.tile(job.item(work.strip, work.tile));
    const size_t block_row = work.strip / cuda::wgmma::kStrips;
    const size_t first_block = tile.expert * expert_blocks(job.a.experts.rows, k) + block_row * blocks;
    const uint8_t* pair_scales[kColumns / 32];  // of pairs beyond the live ones the last one's: nobody looks at their sums
#pragma unroll
    for (int j = 0; j < kColumns / 32; ++j)
      pair_scales[j] = job.pairs.rows + (tile.first + min(32 * j + lane, tile.count - 1)) * cuda::Mxfp8Rows::pitch(k) + k;

    for (int b = 0; b < blocks; ++b) {
      ring.wait_until_empty(turn);
      const size_t block = first_block + b;
      uint8_t* const scales = ring.scales + turn.stage * kScaleBytes;
      uint64_t* const full = &ring.full[turn.stage];
      if (ptx::elect_one()) {
        ptx::mbarrier_arrive_expect_tx(full, kBlockBytes + Shape::kTileBytes);
        ptx::tensor_load_2d(ring.weights + turn.stage * Shape::kWeightBytes, &job.weights, 0,
                            static_cast<int>(block * (kBlockBytes / kRowBytes)), full);
        ptx::bulk_load(ring.weight_scales + turn.stage * kScaleBytes, job.a.experts.arranged + block * kBlockBytes + kCodeBytes,
                       kScaleBytes, full);
        ptx::tensor_load_2d(ring.tiles + turn.stage * Shape::kTileBytes, &job.codes, b * kBlockDepth, tile.first, full);
      }
#pragma unroll
      for (int j = 0; j < kColumns / 32; ++j)
        ptx::cp_async_4(scales + scale_at(32 * j + lane, 0), pair_scales[j] + b * kSteps);
      ptx::cp_async_commit_group();
      turn.template advance<Shape::kStages>();
      if (++pending <= Shape::kLag) continue;
      ptx::cp_async_wait_group<Shape::kLag>();
      hand_over();
    }
  }
  ptx::cp_async_wait_group<0>();
  while (pending > 0) hand_over();
  // The block may not end before the last arrivals at its barriers.
  for (int stage = 0; stage < Shape::kStages; ++stage) {
    ring.wait_until_empty(turn);
    turn.template advance<Shape::kStages>();
  }
}

}  // namespace gptoss::cuda::tcgen05
