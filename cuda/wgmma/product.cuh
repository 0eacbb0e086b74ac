// y (columns, rows) = W (rows, k) x (columns, k)', by wgmma: for so many columns that the tensor cores are the bound
//
// A block multiplies 128 rows of weights by 128 columns of bf16 activations at a time, tokens or pairs of one expert, and by
// 64 where no more are left. A warpgroup of producers fills the ring; two of consumers take 64 rows each, A from registers,
// where MXFP4 becomes bf16, and B from shared memory. There is a block for each multiprocessor, which goes from one piece of
// work to the next.
// Bound by the tensor cores: 32,768 FLOP for each column of k and 128 x 128 sums, for 256 bytes of activations and 256 (bf16)
// or 68 (MXFP4) of weights from the second-level cache; an expert of the 20b has 50 MFLOP for each of its pairs. That is 64 or
// 101 FLOP for a byte: for 790 TFLOP/s that cache would have to give 12 or 8 TB/s, which is more than it is believed to have.
// Two blocks that share activations (a cluster) would need 25 or 40 % less. A float32 multiply-add for each sum and 32 columns
// of k takes half of what a multiprocessor can issue meanwhile: one warpgroup adds while the other one multiplies.
// The sums are those of mma/product.cuh, in its order: chains of 32 columns, scaled and added in float32, in the parts of k of
// its warps. So, if a card's wgmma and mma.sync add the 16 products of a step alike, as the emulator's do, a prefill's results
// are those of a decode to the bit.
// Tested by wgmma_product_test.cpp (faults, and the bits of mma_product) and test_matrix_kernels.py (in the engine).
#pragma once

#include "architecture.cuh"
#include "mma/jobs.cuh"
#include "ptx/registers.cuh"
#include "ptx/wgmma.cuh"
#include "ring.cuh"

namespace gptoss::cuda::wgmma {

constexpr int kSums = kColumns / 2;  // of a thread: two rows of its warp, a quarter of the columns
// Registers of a thread; the block has 168 for each when it starts.
constexpr int kConsumerRegisters = 232, kProducerRegisters = 40;
static_assert(kConsumers * kConsumerRegisters + kProducers * kProducerRegisters <= 64 * 1024);

// A warp's sums in shared memory: neither fragments nor rows meet a bank twice.
constexpr int kSumBytes = cuda::kStripRows * kColumns * sizeof(float);
GPTOSS_DEVICE int sum_at(int column, int row) {
  return (column ^ (column >> 1 & 1)) * cuda::kStripRows + (row ^ (column >> 2 & 1) * 8);
}

template <class Format>
struct ProductShape {
  static constexpr size_t kSumsAt = Ring<Format>::kBytes;
  static constexpr size_t kShared = kSumsAt + size_t{kStrips} * kSumBytes;
  static_assert(kShared <= 227 * 1024, "what sm_90 has for a block");
};

// Of a warp's strip, from one stage to the next.
template <class Format>
struct Consumer {
  const Ring<Format>& ring;
  uint64_t tiles;  // the first stage's descriptor; addresses are in units of 16 bytes there
  int strip = 0;   // of the ring
  Turn turn;
  Fragments fragments[2];  // of the halves of a unit
  float total[kSums];

  GPTOSS_DEVICE explicit Consumer(const Ring<Format>& ring) : ring(ring), tiles(ptx::wgmma_descriptor_128b(ring.tile(0))) {}

  GPTOSS_DEVICE void wait_for_stage() { wait_for(&ring.full[turn.stage], turn.parity); }
  GPTOSS_DEVICE void read(int half) { Format::read(ring.unit(turn.stage, strip), half, fragments[half]); }

  template <int kN>
  GPTOSS_DEVICE void start_products(int half, float (&chain)[kN / 2]) {
    const uint64_t b = tiles + (turn.stage * kTileBytes + half * 64) / 16;
    ptx::wgmma_fence();  // the fragments are in their registers, and the last chain was read
    ptx::wgmma_m64k16_bf16_first<kN>(chain, fragments[half].a[0], b);
    ptx::wgmma_m64k16_bf16<kN>(chain, fragments[half].a[1], b + 2);
    ptx::wgmma_commit_group();
  }
  template <int kN>
  GPTOSS_DEVICE void add_products(int half, const float (&chain)[kN / 2], float (&part)[kN / 2]) {
    ptx::wgmma_wait_group<0>();
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) part[i] = fmaf(fragments[half].scale[i / 2 % 2], chain[i], part[i]);
  }
  // The producers may fill the stage again.
  GPTOSS_DEVICE void release(int stage) {
    simt::sync_warp();  // all lanes have read their weights
    if (simt::lane() == 0) ptx::mbarrier_arrive(&ring.empty[stage]);
  }

  // The strip times the first kN columns.
  template <int kN>
  GPTOSS_DEVICE void multiply(int units) {
    float chain[kN / 2], part[kN / 2];
#pragma unroll
    for (int i = 0; i < kSums; ++i) total[i] = 0;
    wait_for_stage();
    read(0);
    for (int p = 0, unit = 0; p < cuda::kProductWarps; ++p) {
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) part[i] = 0;
#pragma unroll 1
      for (const int end = (p + 1) * units / cuda::kProductWarps; unit < end; ++unit) {
        start_products<kN>(0, chain);
        read(1);  // while the tensor cores work
        add_products<kN>(0, chain, part);
        start_products<kN>(1, chain);
        const int stage = turn.stage;
        turn.template advance<Ring<Format>::kStages>();
        if (unit + 1 < units) {
          wait_for_stage();
          read(0);
        }
        add_products<kN>(1, chain, part);
        release(stage);
      }
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) total[i] += part[i];
    }
  }
};

// Hands the sums of a warp's strip to the job. What was known before the product is found again, so that no register had
// to keep it.
template <class Format, class Job>
GPTOSS_DEVICE void finish(const Job& job, int i, const Consumer<Format>& consumer, float* sums) {
  const Work work = work_at(job, i);
  const int warp = simt::warp(), lane = simt::lane(), g = lane / 4, t = lane % 4;
  if (warp >= work.strips) return;
#pragma unroll
  for (int n = 0; n < kSums; ++n) sums[sum_at(n / 4 * 8 + 2 * t + n % 2, g + n / 2 % 2 * 8)] = consumer.total[n];
  simt::sync_warp();  // all sums of the strip are there; the next ones come behind the barrier of release()
  const int item = job.item(work.strip + warp, work.tile);
  job.finish(item, job.sources(item), {lane, simt::kWarp}, [&](int column, int row) { return sums[sum_at(column, row)]; });
}

template <class Format, class Job>
GPTOSS_DEVICE void consume(const Job& job, const Ring<Format>& ring, float* sums) {
  const int count = work_count(job);
  Consumer<Format> consumer(ring);
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const Work work = work_at(job, i);
    const int live = job.sources(job.item(work.strip, work.tile)), units = job.depth() / cuda::kUnitDepth;
    if (live <= 0) continue;
    consumer.strip = min(simt::warp(), work.strips - 1);  // a warp without a strip goes along with the last one
    if (live > kColumns / 2)
      consumer.template multiply<kColumns>(units);
    else
      consumer.template multiply<kColumns / 2>(units);
    finish(job, i, consumer, sums);
  }
}

template <class Format, class Job>
__global__ void __launch_bounds__(kThreads, 1) wgmma_product([[maybe_unused]] const __grid_constant__ Job job) {
#if GPTOSS_HAS_WGMMA
  GPTOSS_DYNAMIC_SHARED(uint8_t, shared);
  const Ring<Format> ring(shared);
  if (threadIdx.x == 0) ring.make(kArrivals<Job>);
  __syncthreads();  // the barriers are made
  simt::wait_for_predecessors();
  if (threadIdx.x >= kConsumers) {
    ptx::give_registers<kProducerRegisters>();
    produce(job, ring, static_cast<int>(threadIdx.x) - kConsumers);
  } else {
    ptx::take_registers<kConsumerRegisters>();
    consume(job, ring, reinterpret_cast<float*>(shared + ProductShape<Format>::kSumsAt + simt::warp() * kSumBytes));
  }
#endif
}

}  // namespace gptoss::cuda::wgmma
