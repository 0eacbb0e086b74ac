// Weights on their way: each warp's own ring of units in shared memory, filled by cp.async ahead of the products.
//
// A lane copies the very bytes that it reads later, so it waits for its own copies and for nobody else: no barrier.
// Bound by memory: a block of eight warps has up to kRingBytes on their way.
// Tested by mma_product_test.cpp.
#pragma once

#include "ptx/copy_async.cuh"
#include "ptx/matrix.cuh"
#include "simt/mxfp4.cuh"
#include "weights.cuh"

namespace gptoss::cuda {

// Registers of a column's activations: 8 bf16 of the first 32 columns of a unit, and 8 of the others.
struct Activations {
  uint4 half[2];
};

struct Bf16Units {
  static constexpr bool kMxfp4 = false;
  static constexpr size_t kUnitBytes = kBf16UnitBytes, kSlotBytes = kBf16UnitBytes;

  static GPTOSS_DEVICE void copy(uint8_t* slot, const uint8_t* unit) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const int at = (step * 32 + simt::lane()) * 16;
      ptx::cp_async_16(slot + at, unit + at);
    }
  }

  // sums += the unit times the first `used` tiles of eight columns. The tensor cores cut off what they cannot hold of a sum; a chain that starts
  // from nothing every 64 columns, and float32 additions between them, keep that from adding up.
  template <int kTiles>
  static GPTOSS_DEVICE void multiply(const uint8_t* slot, const Activations (&x)[kTiles], int used, float (&sums)[kTiles][4]) {
    float chain[kTiles][4] = {};
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const uint4 w = reinterpret_cast<const uint4*>(slot)[step * 32 + simt::lane()];
      const uint32_t a[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        if (j >= used) continue;
        const uint4& words = x[j].half[step / 2];
        const uint32_t b[2] = {step % 2 ? words.z : words.x, step % 2 ? words.w : words.y};
        ptx::mma_m16n8k16_bf16(chain[j], a, b);
      }
    }
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[j][i] += chain[j][i];
  }
};

struct Mxfp4Units {
  static constexpr bool kMxfp4 = true;
  static constexpr size_t kUnitBytes = kMxfp4UnitBytes, kSlotBytes = kMxfp4CodeBytes + 32 * sizeof(uint32_t);

  static GPTOSS_DEVICE void copy(uint8_t* slot, const uint8_t* unit) {
    const int lane = simt::lane();
    ptx::cp_async_16(slot + lane * 16, unit + lane * 16);
    ptx::cp_async_4(slot + kMxfp4CodeBytes + lane * 4, unit + kMxfp4CodeBytes + lane / 4 * 4);
  }

  // The codes' values are multiplied as they are; 32 columns are one chain, and its sum takes the scale of its row.
  template <int kTiles>
  static GPTOSS_DEVICE void multiply(const uint8_t* slot, const Activations (&x)[kTiles], int used, float (&sums)[kTiles][4]) {
    const uint4 words = reinterpret_cast<const uint4*>(slot)[simt::lane()];
    const uint32_t scales = reinterpret_cast<const uint32_t*>(slot + kMxfp4CodeBytes)[simt::lane()];
    multiply_half<kTiles, 0>(words.x, words.y, scales, x, used, sums);
    multiply_half<kTiles, 1>(words.z, words.w, scales >> 16, x, used, sums);
  }

 private:
  template <int kTiles, int kHalf>
  static GPTOSS_DEVICE void multiply_half(uint32_t lower, uint32_t upper, uint32_t scales, const Activations (&x)[kTiles],
                                          int used, float (&sums)[kTiles][4]) {
    const uint32_t first[4] = {unpack_pair<0>(lower), unpack_pair<0>(upper), unpack_pair<1>(lower), unpack_pair<1>(upper)};
    const uint32_t second[4] = {unpack_pair<2>(lower), unpack_pair<2>(upper), unpack_pair<3>(lower), unpack_pair<3>(upper)};
    const float scale[2] = {simt::e8m0_to_float(scales & 0xff), simt::e8m0_to_float(scales >> 8 & 0xff)};
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      if (j >= used) continue;
      float chain[4] = {};
      const uint4& words = x[j].half[kHalf];
      const uint32_t b_first[2] = {words.x, words.y}, b_second[2] = {words.z, words.w};
      ptx::mma_m16n8k16_bf16(chain, first, b_first);
      ptx::mma_m16n8k16_bf16(chain, second, b_second);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[j][i] = fmaf(scale[i / 2], chain[i], sums[j][i]);
    }
  }
};

// What one warp reads: units [first, end) of the strips of its block's items, in this order.
template <class Format, class Job, int kStages>
struct WeightRing {
  uint8_t* slots;  // kStages of Format::kSlotBytes, the warp's own
  const Job& job;
  int first, end, items;
  int item, unit, stage = 0;  // of the next copy
  const uint8_t* strip = nullptr;

  GPTOSS_DEVICE WeightRing(uint8_t* slots, const Job& job, int first, int end, int items)
      : slots(slots), job(job), first(first), end(end), items(items), item(blockIdx.x), unit(first) {
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
        item += gridDim.x;
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
