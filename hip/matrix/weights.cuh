// The order in which weights lie for the matrix cores, and what a lane makes of them.
//
// Strips of 16 rows, one behind the other; in a strip, units of 32 columns; in a unit, row by row what a lane
// loads at a time: 16 bytes. So lanes l / 16 = 0, 1, ... that take consecutive units read one linear range,
// in waves of either size.
//
//   bf16   1024 bytes: quarter (4), row (16), eight numbers
//   MXFP4   272 bytes: row (16), 32 codes; then row (16), its scale
//
// A word of eight codes has the first four in the low halves of its bytes and the others in the high ones, so
// that both become selectors of byte permutes: the bf16 values of the eight magnitudes, times the scale, are
// a table of two bytes each, in four registers. That is exact for every scale, as a product of float32 is.
// Tested by hip_product_test.cpp.
#pragma once

#include "amdgcn/bits.cuh"
#include "core.cuh"
#include "simt/mxfp4.cuh"

namespace gptoss::hip {

constexpr size_t kBf16UnitBytes = 1024, kMxfp4UnitBytes = 272, kMxfp4CodeBytes = 256;

struct Layout {
  static constexpr int kStripRows = hip::kStripRows;
  static constexpr __host__ __device__ size_t bf16_strip_bytes(int k) {
    return k / kUnitDepth * kBf16UnitBytes;
  }
  static constexpr __host__ __device__ size_t mxfp4_strip_bytes(int k) {
    return k / kUnitDepth * kMxfp4UnitBytes;
  }
};

// Eight codes, the first in the lowest bits, as the kernels take them.
GPTOSS_DEVICE uint32_t recode(uint32_t codes) {
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) word |= (codes >> (4 * i) & 15) << (8 * (i % 4) + i / 4 * 4);
  return word;
}

// A format says how a lane loads its row of a unit (Raw), what becomes of that (Weights), what becomes of a
// column of activations (Columns), and multiplies both.
struct Bf16Units : Bf16Product {
  static constexpr size_t kUnitBytes = kBf16UnitBytes;
  // As loaded, of one strip and unit.
  struct Raw {
    uint4 quarter[4];
    GPTOSS_DEVICE void load(const uint8_t* unit) {
      const uint4* row = reinterpret_cast<const uint4*>(unit) + simt::lane() % kStripRows;
#pragma unroll
      for (int i = 0; i < 4; ++i) quarter[i] = row[i * kStripRows];
    }
    GPTOSS_DEVICE void clear() {
#pragma unroll
      for (int i = 0; i < 4; ++i) quarter[i] = {0, 0, 0, 0};
    }
    GPTOSS_DEVICE void unpack(UnitOfLane& to) const {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t* pairs = to.pairs + 4 * i;
        pairs[0] = quarter[i].x, pairs[1] = quarter[i].y, pairs[2] = quarter[i].z, pairs[3] = quarter[i].w;
      }
    }
  };
};

// The bf16 values of the magnitudes 0 to 3 and 4 to 7, times a scale: their high bytes and their low bytes.
struct Magnitudes {
  uint32_t high[2], low[2];
  GPTOSS_DEVICE explicit Magnitudes(float scale) {
    const float values[8] = {0.0f,         0.5f * scale, scale,        1.5f * scale,
                             2.0f * scale, 3.0f * scale, 4.0f * scale, 6.0f * scale};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t pairs[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float* pair = values + 4 * half + 2 * i;
        pairs[i] = amdgcn::permute_bytes(__float_as_uint(pair[1]), __float_as_uint(pair[0]), 0x07060302u);
      }
      high[half] = amdgcn::permute_bytes(pairs[1], pairs[0], 0x07050301u);
      low[half] = amdgcn::permute_bytes(pairs[1], pairs[0], 0x06040200u);
    }
  }
  // Of the four codes in the low halves of the bytes of `codes`, two to a word.
  GPTOSS_DEVICE void unpack(uint32_t codes, uint32_t (&pairs)[2]) const {
    const uint32_t magnitude = codes & 0x07070707u, sign = (codes & 0x08080808u) << 4;
    const uint32_t upper = amdgcn::permute_bytes(high[1], high[0], magnitude) | sign;
    const uint32_t lower = amdgcn::permute_bytes(low[1], low[0], magnitude);
    pairs[0] = amdgcn::permute_bytes(upper, lower, 0x05010400u);
    pairs[1] = amdgcn::permute_bytes(upper, lower, 0x07030602u);
  }
};

struct Mxfp4Units : Bf16Product {
  static constexpr size_t kUnitBytes = kMxfp4UnitBytes;
  struct Raw {
    uint4 codes;
    uint8_t scale;
    GPTOSS_DEVICE void load(const uint8_t* unit) {
      const int row = simt::lane() % kStripRows;
      codes = reinterpret_cast<const uint4*>(unit)[row];
      scale = unit[kMxfp4CodeBytes + row];
    }
    GPTOSS_DEVICE void clear() { codes = {0, 0, 0, 0}, scale = 0; }
    GPTOSS_DEVICE void unpack(UnitOfLane& to) const {
      const Magnitudes magnitudes(simt::e8m0_to_float(scale));
      const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t first[2], second[2];
        magnitudes.unpack(words[i], first);
        magnitudes.unpack(words[i] >> 4, second);
        uint32_t* pairs = to.pairs + 4 * i;
        pairs[0] = first[0], pairs[1] = first[1], pairs[2] = second[0], pairs[3] = second[1];
      }
    }
  };
};

}  // namespace gptoss::hip
