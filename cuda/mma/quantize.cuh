// codes (pairs, k) e4m3, scales (pairs, k / 32) e8m0: the activations of an expert product as MXFP8, in the order of the
// pairs, so that those of a tile lie one behind the other
//
// A thread for eight activations; four of them share a scale and find it by two shuffles.
// Bound by latency at few tokens, then by memory: 3 bytes an activation, 35 KB a token of the 20b for each product, beside
// some thousand multiply-adds of each activation that follow.
// No sums; every byte has one writer. A scale depends on its 32 activations alone.
// Tested by mma_product_test.cpp (faults) and test_matrix_kernels.py (in the engine).
#pragma once

#include "architecture.cuh"
#include "ptx/bits.cuh"
#include "simt/gpu_state.h"
#include "simt/matrix_kernels.h"
#include "simt/operand.cuh"
#include "weights.cuh"

namespace gptoss::cuda {

constexpr int kQuantizeThreads = 256;

// Rows of MXFP8: k codes, then their scales, at a multiple of 16 bytes.
struct Mxfp8Rows {
  static constexpr int count = 1;  // terms
  uint8_t* rows;
  static constexpr __host__ __device__ size_t pitch(int k) { return static_cast<size_t>(k) + (k / 32 + 15) / 16 * 16; }
};

// Four codes in a word.
GPTOSS_DEVICE uint32_t e4m3x4(float a, float b, float c, float d) {
  return ptx::cvt_e4m3x2(a, b) | static_cast<uint32_t>(ptx::cvt_e4m3x2(c, d)) << 16;
}

// In which order a row's codes lie: those of columns 8 piece to 8 piece + 7. For fragments of mma.sync: in a unit of 64 columns
// lane t has its 16 codes side by side: of columns 8 t + 0, 2, 4, 6, then 1, 3, 5, 7, as MXFP4 is taken apart; then of 32 + 8 t.
struct FragmentOrder {
  static GPTOSS_DEVICE void store(uint8_t* row, int piece, const float (&v)[8]) {
    const int t = piece % 4, half = piece / 4 % 2;
    *reinterpret_cast<uint2*>(row + piece / 8 * kUnitDepth + t * 16 + half * 8) = {e4m3x4(v[0], v[2], v[4], v[6]),
                                                                                   e4m3x4(v[1], v[3], v[5], v[7])};
  }
};
// For tcgen05: that of the columns.
struct AscendingOrder {
  static GPTOSS_DEVICE void store(uint8_t* row, int piece, const float (&v)[8]) {
    *reinterpret_cast<uint2*>(row + piece * 8) = {e4m3x4(v[0], v[1], v[2], v[3]), e4m3x4(v[4], v[5], v[6], v[7])};
  }
};

struct QuantizeArgs {
  MoeArgs moe;
  Mxfp8Rows to;
};

// The conversion of the OCP specification of MX formats (1.0, 6.3): the scale is the largest magnitude's power of two,
// divided by that of e4m3's largest number, 2^8. What is above 448 of it becomes 448.
GPTOSS_DEVICE uint32_t mxfp8_scale(uint32_t largest_bf16) {
  constexpr int kLargestExponent = 8, kNone = 255;
  const int exponent = static_cast<int>(largest_bf16 >> 7);
  return exponent == 255 ? kNone : max(exponent - kLargestExponent, 0);  // what is not finite stays to be seen
}

// kByToken: x has a row for each token, not for each pair.
template <bool kByToken, class Order = FragmentOrder>
__global__ void __launch_bounds__(kQuantizeThreads) quantize_mxfp8(QuantizeArgs a) {
#if GPTOSS_HAS_BLOCK_SCALED_MMA || GPTOSS_HAS_TCGEN05
  simt::wait_for_predecessors();
  const int k = a.moe.experts.k, pieces = k / 8, tiles = *a.moe.tile_count;
  const ExpertTile last = tiles > 0 ? a.moe.tiles[tiles - 1] : ExpertTile{};
  const size_t i = static_cast<size_t>(blockIdx.x) * kQuantizeThreads + threadIdx.x;
  const int place = static_cast<int>(i / pieces), piece = static_cast<int>(i % pieces);
  const bool live = place < last.first + last.count;  // all four threads of a scale, or none

  uint4 words = {};
  if (live) {
    const int pair = a.moe.pairs[place];
    const size_t row = kByToken ? pair / a.moe.chosen : pair;
    words = reinterpret_cast<const uint4*>(a.moe.x.terms + row * k)[piece];
  }
  const uint32_t eight[4] = {words.x, words.y, words.z, words.w};
  uint32_t largest = 0;  // bits of magnitudes are ordered as numbers are
#pragma unroll
  for (int n = 0; n < 4; ++n) largest = max(largest, max(eight[n] & 0x7fffu, eight[n] >> 16 & 0x7fffu));
  largest = max(largest, simt::shuffle_xor(largest, 1));
  largest = max(largest, simt::shuffle_xor(largest, 2));
  if (!live) return;

  const uint32_t scale = mxfp8_scale(largest);
  const float down = __uint_as_float((254 - min(scale, 253u)) << 23);  // 2^(127 - scale)
  float values[8];
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    values[2 * n] = __uint_as_float(eight[n] << 16) * down;
    values[2 * n + 1] = __uint_as_float(eight[n] & 0xffff0000u) * down;
  }
  uint8_t* const row = a.to.rows + place * Mxfp8Rows::pitch(k);
  Order::store(row, piece, values);
  if (piece % 4 == 0) row[k + piece / 4] = static_cast<uint8_t>(scale);
#endif
}

inline void start_quantize(const char* name, void (*quantize)(QuantizeArgs), const QuantizeArgs& args,
                           const simt::MatrixKernels::Launch& launch) {
  const size_t pieces = static_cast<size_t>(launch.tokens) * args.moe.chosen * args.moe.experts.k / 8;
  if (pieces == 0) return;
  const dim3 grid(static_cast<unsigned>((pieces + kQuantizeThreads - 1) / kQuantizeThreads));
  simt::check(simt::launch(quantize, {.grid = grid, .block = dim3(kQuantizeThreads), .stream = launch.stream,
                                      .programmatic = launch.dependent}, args),
              std::string("launching kernel quantize_mxfp8 of ") + name);
}

}  // namespace gptoss::cuda
