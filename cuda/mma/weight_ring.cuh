// Weights on their way: each warp's own ring of units in shared memory, filled by cp.async ahead of the products.
//
// A lane copies the very bytes that it reads later, so it waits for its own copies and for nobody else: no barrier.
// Bound by memory: a block of eight warps has up to kRingBytes on their way.
// Tested by mma_product_test.cpp.
#pragma once

#include "activations.cuh"
#include "ptx/copy_async.cuh"
#include "ptx/matrix.cuh"
#include "simt/mxfp4.cuh"
#include "team.cuh"
#include "weights.cuh"

namespace gptoss::cuda {

// sums += 32 columns of weights, two fragments, times the next 32 elements of the activations. Tensor cores cut off what
// they cannot hold of a sum; a chain that starts from nothing every 32 columns, and float32 additions between them,
// keep that from adding up. `scale`: of rows g and g + 8.
template <class X, int kTiles>
GPTOSS_DEVICE void multiply_half(const uint32_t (&first)[4], const uint32_t (&second)[4], const float (&scale)[2],
                                 X& x, float (&sums)[kTiles][4]) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
    if (j >= x.used) continue;
    const uint4 words = x.load(j);
    const uint32_t b_first[2] = {words.x, words.y}, b_second[2] = {words.z, words.w};
    float chain[4] = {};
    ptx::mma_m16n8k16_bf16(chain, first, b_first);
    ptx::mma_m16n8k16_bf16(chain, second, b_second);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[j][i] = fmaf(scale[i / 2], chain[i], sums[j][i]);
  }
  x.advance();
}

struct Bf16Units {
  static constexpr bool kCompiled = true;
  static constexpr size_t kUnitBytes = kBf16UnitBytes, kSlotBytes = kBf16UnitBytes;
  template <int kTiles>
  using Columns = Activations<kTiles>;

  static GPTOSS_DEVICE void copy(uint8_t* slot, const uint8_t* unit) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const int at = (step * 32 + simt::lane()) * 16;
      ptx::cp_async_16(slot + at, unit + at);
    }
  }

  template <class X, int kTiles>
  static GPTOSS_DEVICE void multiply(const uint8_t* slot, X& x, float (&sums)[kTiles][4]) {
    const uint4* fragments = reinterpret_cast<const uint4*>(slot) + simt::lane();
    // Beside the sums of 48 columns there are not registers enough for both halves.
#pragma unroll(kTiles <= 4 ? 2 : 1)
    for (int half = 0; half < 2; ++half) {
      const uint4 v = fragments[64 * half], w = fragments[64 * half + 32];
      const uint32_t first[4] = {v.x, v.y, v.z, v.w}, second[4] = {w.x, w.y, w.z, w.w};
      multiply_half(first, second, {1.0f, 1.0f}, x, sums);
    }
  }
};

struct Mxfp4Units {
  static constexpr bool kCompiled = true;
  static constexpr size_t kUnitBytes = kMxfp4UnitBytes, kSlotBytes = kMxfp4CodeBytes + 32 * sizeof(uint32_t);
  template <int kTiles>
  using Columns = Activations<kTiles>;

  static GPTOSS_DEVICE void copy(uint8_t* slot, const uint8_t* unit) {
    const int lane = simt::lane();
    ptx::cp_async_16(slot + lane * 16, unit + lane * 16);
    ptx::cp_async_4(slot + kMxfp4CodeBytes + lane * 4, unit + kMxfp4CodeBytes + lane / 4 * 4);
  }

  // The codes' values are multiplied as they are; the sums of 32 columns take the scales of their rows.
  template <class X, int kTiles>
  static GPTOSS_DEVICE void multiply(const uint8_t* slot, X& x, float (&sums)[kTiles][4]) {
    const uint32_t scales = reinterpret_cast<const uint32_t*>(slot + kMxfp4CodeBytes)[simt::lane()];
    if constexpr (kTiles <= 4) {
      const uint4 words = reinterpret_cast<const uint4*>(slot)[simt::lane()];
      unpack_and_multiply(words.x, words.y, scales, x, sums);
      unpack_and_multiply(words.z, words.w, scales >> 16, x, sums);
    } else {  // one half at a time: as above
#pragma unroll 1
      for (int half = 0; half < 2; ++half) {
        const uint2 words = reinterpret_cast<const uint2*>(slot)[2 * simt::lane() + half];
        unpack_and_multiply(words.x, words.y, scales >> (16 * half), x, sums);
      }
    }
  }

 private:
  template <class X, int kTiles>
  static GPTOSS_DEVICE void unpack_and_multiply(uint32_t lower, uint32_t upper, uint32_t scales, X& x,
                                                float (&sums)[kTiles][4]) {
    uint32_t first[4], second[4];
    unpack_fragments(lower, upper, first, second);
    const float scale[2] = {simt::e8m0_to_float(scales & 0xff), simt::e8m0_to_float(scales >> 8 & 0xff)};
    multiply_half(first, second, scale, x, sums);
  }
};

// The item that a block takes behind this one. Blocks take turns, unless the job has them take some together.
template <class Job>
GPTOSS_DEVICE int next_item(const Job& job, int item, const Team& team) {
  if constexpr (requires { job.next(item, team); })
    return job.next(item, team);
  else
    return item + team.blocks;
}

// What one warp reads: units [first, end) of the strips of its block's items, in this order.
template <class Format, class Job, int kStages>
struct WeightRing {
  uint8_t* slots;  // kStages of Format::kSlotBytes, the warp's own
  const Job& job;
  Team team;
  int first, end, items;
  int item, unit, stage = 0;  // of the next copy
  const uint8_t* strip = nullptr;

  GPTOSS_DEVICE WeightRing(uint8_t* slots, const Job& job, const Team& team, int first, int end, int items)
      : slots(slots), job(job), team(team), first(first), end(end), items(items), item(team.block), unit(first) {
    if (first == end) item = items;  // nothing of a short k
    if (item < items) strip = job.weights(item);
    for (int i = 0; i < kStages - 1; ++i) fetch();
  }

  // A group for each unit, empty or not: so the wait's count is the same at the end.
  GPTOSS_DEVICE void fetch() {
    if (item < items) {
      Format::copy(slots + stage * Format::kSlotBytes, strip + unit * Format::kUnitBytes);
      if (++unit == end) {
        unit = first;
        item = next_item(job, item, team);
        if (item < items) strip = job.weights(item);
      }
    }
    ptx::cp_async_commit_group();
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }

  // The oldest unit, which is there; a new one takes the place of the one before it.
  GPTOSS_DEVICE const uint8_t* next() {
    ptx::cp_async_wait_group<kStages - 2>();
    const int oldest = stage + 1 == kStages ? 0 : stage + 1;
    fetch();
    return slots + oldest * Format::kSlotBytes;
  }
};

}  // namespace gptoss::cuda
