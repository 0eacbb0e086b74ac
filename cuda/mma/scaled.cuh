// MXFP4 as sm_120a multiplies it, without decoding: codes and scales go to the tensor core as they are, activations as
// MXFP8 (quantize.cuh).
//
// Twice the rate of bf16 and almost nothing to unpack, and dearly bought: an activation keeps four significant bits of
// eight, an error of 2^-4 at most, or of 1/8 where it is more than 448 of its scale; 3 % of a product (see
// tests/tolerances.py). Two numbers of e4m3 for an activation, as hip/matrix/scaled.cuh takes them, would be exact and no
// faster than bf16.
//
// The layout of the instruction is read from a document; no card has run this. Compiled, emulated as it is read, in `fast`
// only, and off unless GPTOSS_CUDA_BLOCK_SCALED=1 (see kernels.cpp). Tested by mma_product_test.cpp.
#pragma once

#include "product.cuh"
#include "quantize.cuh"

namespace gptoss::cuda {

struct ScaledMxfp4Units {
  static constexpr bool kCompiled = GPTOSS_HAS_BLOCK_SCALED_MMA;
  static constexpr size_t kUnitBytes = Mxfp4Units::kUnitBytes, kSlotBytes = Mxfp4Units::kSlotBytes;
  static GPTOSS_DEVICE void copy(uint8_t* slot, const uint8_t* unit) { Mxfp4Units::copy(slot, unit); }

  // As Activations; the 16 bytes are those of a unit.
  template <int kTiles>
  struct Columns {
    const uint8_t *codes, *scales;  // move on
    uint32_t at[kTiles];
    int used;

    template <class Job>
    GPTOSS_DEVICE void set(int j, const Job& job, int source, int, int k, const float*) {
      const uint8_t* const rows = job.x().rows;
      const int unit = k / kUnitDepth;
      codes = rows + unit * kUnitDepth + simt::lane() % 4 * 16;
      scales = rows + job.depth() + unit * 2;
      at[j] = static_cast<uint32_t>(source * Mxfp8Rows::pitch(job.depth()));
    }
  };

  // Even and odd columns of a word of codes, a byte for each: see Mxfp8Rows.
  static GPTOSS_DEVICE uint32_t even(uint32_t codes) { return codes << 2 & 0x3c3c3c3cu; }
  static GPTOSS_DEVICE uint32_t odd(uint32_t codes) { return codes >> 2 & 0x3c3c3c3cu; }

  template <int kTiles>
  static GPTOSS_DEVICE void multiply(const uint8_t* slot, Columns<kTiles>& x, float (&sums)[kTiles][4]) {
#if GPTOSS_HAS_BLOCK_SCALED_MMA
    const int lane = simt::lane();
    const uint4 words = reinterpret_cast<const uint4*>(slot)[lane];
    const uint32_t first[4] = {even(words.x), even(words.y), odd(words.x), odd(words.y)};
    const uint32_t second[4] = {even(words.z), even(words.w), odd(words.z), odd(words.w)};
    // Bytes {row g, row g + 8} of the first 32 columns and of the others: an odd lane speaks for row g + 8.
    const uint32_t scales = reinterpret_cast<const uint32_t*>(slot + kMxfp4CodeBytes)[lane] >> (lane % 2 * 8);
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      if (j >= x.used) continue;
      const uint4 codes = *reinterpret_cast<const uint4*>(x.codes + x.at[j]);
      const uint32_t x_scales = *reinterpret_cast<const uint16_t*>(x.scales + x.at[j]);
      const uint32_t x_first[2] = {codes.x, codes.y}, x_second[2] = {codes.z, codes.w};
      float chain[4] = {};  // for the reason of multiply_half()
      ptx::mma_m16n8k32_e2m1_e4m3<0, 0>(chain, first, scales, x_first, x_scales);
      ptx::mma_m16n8k32_e2m1_e4m3<2, 1>(chain, second, scales, x_second, x_scales);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[j][i] += chain[i];
    }
    x.codes += kUnitDepth, x.scales += 2;
#endif
  }
};

// An expert's product whose activations were quantised: they lie in the order of the pairs.
template <class Job>
struct ScaledJob : Job {
  Mxfp8Rows rows;
  GPTOSS_DEVICE const Mxfp8Rows& x() const { return rows; }
  GPTOSS_DEVICE int source(int item, int i) const { return this->tile(item).first + i; }
};

}  // namespace gptoss::cuda
