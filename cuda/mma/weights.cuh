// The order in which weights lie for mma.sync.
//
// Strips of 16 rows, one behind the other; in a strip, units of 64 columns; in a unit, what each lane multiplies side
// by side, so that a warp that reads a strip reads one linear range, each lane 16 bytes that nobody else wants.
//
// Lane 4 g + t holds rows g and g + 8 of its strip. Of a unit's columns it holds 8 t to 8 t + 7 and 32 + 8 t to
// 32 + 8 t + 7: a product may number its columns as it likes, if both operands do, and so activations are read as they
// lie, 16 bytes at a time. Step s (mma.sync multiplies 16 columns) takes columns 32 (s / 2) + 8 t + 4 (s % 2) to + 3.
//
//   bf16   2048 bytes: step (4), lane (32), registers a[0] to a[3] of mma_m16n8k16_bf16
//   MXFP4   544 bytes: lane (32), words of eight codes {row g, row g + 8} of columns 8 t and of 32 + 8 t; then
//           g (8), scales {row g, row g + 8} of the first 32 columns and of the others
//
// A word of codes is recoded so that a pair of codes becomes two bf16 by few operations; see unpack_pair(). Where codes
// are multiplied as they are (scaled.cuh), it stays the checkpoint's.
// Tested by mma_product_test.cpp.
#pragma once

#include "ptx/bits.cuh"

namespace gptoss::cuda {

constexpr int kStripRows = 16, kUnitDepth = 64;
constexpr size_t kBf16UnitBytes = 2048, kMxfp4UnitBytes = 544, kMxfp4CodeBytes = 512;

struct Layout {
  static constexpr int kStripRows = cuda::kStripRows;
  static constexpr __host__ __device__ size_t bf16_strip_bytes(int k) { return k / kUnitDepth * kBf16UnitBytes; }
  static constexpr __host__ __device__ size_t mxfp4_strip_bytes(int k) { return k / kUnitDepth * kMxfp4UnitBytes; }
};

// --- Codes: columns 2 p (low half) and 2 p + 1 (high half) are pair p of a word. In each half, bits {sign, exponent,
// exponent, mantissa} of pair 0 lie where bf16 has them, {15, 8, 7, 6}; pairs 1 and 2 lie 3 and 6 bits lower; pair 3
// has what is left, {14, 13, 11, 10}.

// Pair p as two bf16 of the codes' values. In place the bits are the value times 2^-126, also 0.5, which is subnormal.
template <int kPair>
GPTOSS_DEVICE uint32_t unpack_pair(uint32_t word) {
  constexpr uint32_t kInPlace = 0x81c081c0u, kMinusZeros = 0x80008000u, kTwoTo126 = 0x7e807e80u;
  uint32_t bits;
  if constexpr (kPair < 3)
    bits = word << (3 * kPair) & kInPlace;
  else
    bits = (word << 1 & 0x80008000u) | (word >> 5 & 0x01000100u) | (word >> 4 & 0x00c000c0u);
  return ptx::fma_bf16x2(bits, kTwoTo126, kMinusZeros);
}

// The fragments of the two steps of 32 columns, from a lane's words of row g and of row g + 8.
GPTOSS_DEVICE void unpack_fragments(uint32_t lower, uint32_t upper, uint32_t (&first)[4], uint32_t (&second)[4]) {
  first[0] = unpack_pair<0>(lower), first[1] = unpack_pair<0>(upper);
  first[2] = unpack_pair<1>(lower), first[3] = unpack_pair<1>(upper);
  second[0] = unpack_pair<2>(lower), second[1] = unpack_pair<2>(upper);
  second[2] = unpack_pair<3>(lower), second[3] = unpack_pair<3>(upper);
}

}  // namespace gptoss::cuda
