// y (pairs, rows) = W (rows, k) x (pairs, k)', of experts, by tcgen05: MXFP4 as it is times MXFP8, with sums in tensor memory
//
// A block multiplies 128 rows of weights by kColumns pairs of one expert at a time, all of k. One warp loads (ring.cuh), one
// lane of another one has scales copied to tensor memory and starts the products, four warps take the sums out, 32 rows each;
// there are two sets of sums, so that the next piece of work is multiplied meanwhile. There is a block for each multiprocessor,
// which goes from one piece of work to the next.
// Bound by the tensor cores at 128 pairs: 4.2 MFLOP for 8.5 KB of weights and 16 KB of activations from the second-level cache;
// at few by reading the weights, 8.5 KB for every 32 pairs (an expert of the 20b: 13.2 MB, of which padding is 3 %).
// An element is one chain over k in ascending order, in the tensor core, of its row and its own pair only; no atomics.
// What this is compiled from are documents; no card has run it: `fast` only, and off unless GPTOSS_CUDA_BLOCK_SCALED=1.
// Tested by tcgen05_product_test.cpp (faults) and test_matrix_kernels.py (in the engine).
#pragma once

#include "mma/jobs.cuh"
#include "ptx/tcgen05.cuh"
#include "ptx/tensor_memory.cuh"
#include "ring.cuh"

namespace gptoss::cuda::tcgen05 {

constexpr int kTakers = 4, kLoader = 4, kMultiplier = 5;  // warps; those who take are a warpgroup, a quarter of the lanes each
constexpr int kThreads = 6 * simt::kWarp;
constexpr int kSets = 2;  // of sums

// A warp's sums in shared memory: neither a column of rows nor a job's rows of some columns meet a bank twice.
GPTOSS_DEVICE int sum_at(int column, int row) { return column * simt::kWarp + (row ^ (column & 1) << 4 ^ (column >> 1 & 1)); }

template <int kColumns>
struct ProductShape {
  static constexpr int kSumBytes = kColumns * simt::kWarp * sizeof(float);
  static constexpr size_t kSumsAt = Ring<kColumns>::kBytes;
  static constexpr size_t kBarriersAt = kSumsAt + kTakers * kSumBytes;
  static constexpr size_t kShared = kBarriersAt + (2 * kSets + 1) * sizeof(uint64_t);
  static_assert(kShared <= 227 * 1024, "what sm_100 has for a block");

  // Columns of tensor memory: the sets of sums; then for each stage the scales of weights and of activations, so that those of
  // the next stage do not replace what a product reads.
  static constexpr int kScaleColumns = 4, kScalesAt = kSets * kColumns;
  static constexpr int kUsed = kScalesAt + Ring<kColumns>::kStages * 2 * kScaleColumns;
  static constexpr int kAllocated = kUsed <= 128 ? 128 : 512;
  static_assert(kUsed <= kAllocated && kAllocated <= ptx::kTensorColumns);
};

// done[s]: the products of a set of sums are done. taken[s]: all sums of it were taken.
struct Sets {
  uint64_t *done, *taken;
  uint32_t* address;  // of the tensor memory

  GPTOSS_DEVICE explicit Sets(uint8_t* shared)
      : done(reinterpret_cast<uint64_t*>(shared)), taken(done + kSets), address(reinterpret_cast<uint32_t*>(taken + kSets)) {}

  GPTOSS_DEVICE void make() const {  // by one thread
    for (int set = 0; set < kSets; ++set) {
      ptx::mbarrier_init(&done[set], 1);
      ptx::mbarrier_init(&taken[set], kTakers);
    }
  }
};

// By one thread: starts all products of the block.
template <int kColumns, class Job>
GPTOSS_DEVICE void multiply(const Blocks<Job>& job, const Ring<kColumns>& ring, const Sets& sets, uint32_t memory) {
  using Shape = ProductShape<kColumns>;
  const int blocks = blocks_along(job.depth()), steps = job.depth() / kStepDepth, count = work_count(job);
  const uint64_t weights = ptx::tcgen05_descriptor_128b(ring.weights), tiles = ptx::tcgen05_descriptor_128b(ring.tiles);
  const uint64_t weight_scales = ptx::tcgen05_descriptor_plain(ring.weight_scales);
  const uint64_t scales = ptx::tcgen05_descriptor_plain(ring.scales);
  Turn turn, set;
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const uint32_t sums = ptx::tensor_address(memory, 0, set.stage * kColumns);
    wait_for(&sets.taken[set.stage], set.parity ^ 1);
    for (int b = 0; b < blocks; ++b) {
      wait_for(&ring.full[turn.stage], turn.parity);
      ptx::tcgen05_fence_after();  // what used the sums and the scales before is done
      const uint32_t a_scales = ptx::tensor_address(memory, 0, Shape::kScalesAt + turn.stage * 2 * Shape::kScaleColumns);
      const uint32_t b_scales = ptx::tensor_address(a_scales, 0, Shape::kScaleColumns);
      ptx::tensor_copy_32x128b(a_scales, weight_scales + turn.stage * kScaleBytes / 16);
      ptx::tensor_copy_32x128b(b_scales, scales + turn.stage * kScaleBytes / 16);
      const uint64_t a = weights + turn.stage * Ring<kColumns>::kWeightBytes / 16;
      const uint64_t x = tiles + turn.stage * Ring<kColumns>::kTileBytes / 16;
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
        if (b * kSteps + step < steps)  // the last block may be short
          ptx::tcgen05_mma_block_scaled(sums, a + step * kStepDepth / 16, x + step * kStepDepth / 16,
                                        ptx::tcgen05_e2m1_e4m3<kColumns>(step), a_scales, b_scales, b + step > 0);
      ptx::tcgen05_commit(&ring.empty[turn.stage]);
      turn.template advance<Ring<kColumns>::kStages>();
    }
    ptx::tcgen05_commit(&sets.done[set.stage]);
    set.template advance<kSets>();
  }
}

// By a warp of four: takes the sums of its rows, and hands them to the job.
template <int kColumns, class Job>
GPTOSS_DEVICE void take(const Blocks<Job>& job, const Sets& sets, uint32_t memory, float* sums) {
  const int count = work_count(job), warp = simt::warp(), lane = simt::lane();
  constexpr int kStrips = simt::kWarp / cuda::kStripRows;
  Turn set;
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    wait_for(&sets.done[set.stage], set.parity);
    ptx::tcgen05_fence_after();  // the products are done
#pragma unroll 1
    for (int first = 0; first < kColumns; first += 32) {
      float values[32];
      ptx::tensor_load_32x32b_x32(values, ptx::tensor_address(memory, warp * simt::kWarp, set.stage * kColumns + first));
      ptx::tensor_wait_load();
#pragma unroll
      for (int j = 0; j < 32; ++j) sums[sum_at(first + j, lane)] = values[j];
    }
    ptx::tcgen05_fence_before();  // the loads are done
    simt::sync_warp();            // by all lanes; and all sums of the warp are there
    if (lane == 0) ptx::mbarrier_arrive(&sets.taken[set.stage]);
    set.template advance<kSets>();

    const Work work = work_at(job, i);
#pragma unroll 1
    for (int s = 0; s < kStrips; ++s) {
      const int strip = warp * kStrips + s;
      if (strip >= work.strips) continue;
      const int item = job.item(work.strip + strip, work.tile);
      job.finish(item, job.sources(item), {lane, simt::kWarp},
                 [&](int column, int row) { return sums[sum_at(column, s * cuda::kStripRows + row)]; });
    }
    simt::sync_warp();  // the next sums may take these places
  }
}

template <int kColumns, class Job>
__global__ void __launch_bounds__(kThreads, 1) tcgen05_product([[maybe_unused]] const __grid_constant__ Blocks<Job> job) {
#if GPTOSS_HAS_TCGEN05
  using Shape = ProductShape<kColumns>;
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  const Ring<kColumns> ring(shared);
  const Sets sets(shared + Shape::kBarriersAt);
  const int warp = simt::warp();
  if (threadIdx.x == 0) {
    ring.make();
    sets.make();
    ptx::fence_mbarrier_init();
  }
  if (warp == kMultiplier) {
    ptx::tensor_alloc(sets.address, Shape::kAllocated);
    ptx::tensor_relinquish();
  }
  __syncthreads();  // the barriers are made, and the address is there
  const uint32_t memory = *sets.address;
  simt::wait_for_predecessors();
  if (warp < kTakers) {
    take<kColumns>(job, sets, memory, reinterpret_cast<float*>(shared + Shape::kSumsAt + warp * Shape::kSumBytes));
  } else if (warp == kLoader) {
    load<kColumns>(job, ring);
  } else if (ptx::elect_one()) {
    multiply<kColumns>(job, ring, sets, memory);
  }
  ptx::tcgen05_fence_before();  // whatever this thread has loaded
  __syncthreads();              // nobody uses the tensor memory any more
  if (warp == kMultiplier) {
    ptx::tcgen05_fence_after();
    ptx::tensor_dealloc(memory, Shape::kAllocated);
  }
#endif
}

}  // namespace gptoss::cuda::tcgen05
