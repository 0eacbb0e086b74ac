// The matrix core of the card that is compiled for, as products use it: a wave multiplies 16 rows by 16
// columns.
//
// A unit is 32 consecutive columns of k: one block of MXFP4. A lane holds one row of either operand, in a
// whole unit; lanes l / 16 hold kGroups different units at a time. Which k an instruction multiplies first
// does not matter, if it is the same for both operands: instruction i takes elements kElements i to kElements
// (i + 1) - 1 of every lane's unit.
#pragma once

#include "amdgcn/matrix.cuh"

// GPTOSS_EMULATED_GFX12: waves of 32 as RDNA 4 multiplies, not RDNA 3.
#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__) || \
    (defined(GPTOSS_EMULATOR) && GPTOSS_EMULATED_WAVE == 64)
#define GPTOSS_HAS_MFMA 1
#elif defined(__gfx1200__) || defined(__gfx1201__) || defined(GPTOSS_EMULATED_GFX12)
#define GPTOSS_HAS_WMMA_HALVES 1
#elif defined(__GFX11__) || defined(GPTOSS_EMULATOR)
#define GPTOSS_HAS_WMMA 1
#endif
#define GPTOSS_HAS_MATRIX_CORE (GPTOSS_HAS_MFMA || GPTOSS_HAS_WMMA_HALVES || GPTOSS_HAS_WMMA)

namespace gptoss::hip {

constexpr int kUnitDepth = 32, kStripRows = 16, kTileColumns = 16;

#if GPTOSS_HAS_MFMA
struct MatrixCore {
  static constexpr int kGroups = 4, kElements = 4;
  using Fragment = amdgcn::Bf16x4;
  using Sums = amdgcn::Float4;
  static constexpr int kSums = 4;
  // Of sum i, whose column is lane() % 16.
  static GPTOSS_DEVICE int row(int i) { return simt::lane() / 16 * 4 + i; }
  static GPTOSS_DEVICE void multiply(Sums& sums, const Fragment& a, const Fragment& b) {
    amdgcn::mfma_16x16x16_bf16(sums, a, b);
  }
};
#elif GPTOSS_HAS_WMMA_HALVES
struct MatrixCore {
  static constexpr int kGroups = 2, kElements = 8;
  using Fragment = amdgcn::Bf16x8;
  using Sums = amdgcn::Float8;
  static constexpr int kSums = 8;
  static GPTOSS_DEVICE int row(int i) { return simt::lane() / 16 * 8 + i; }
  static GPTOSS_DEVICE void multiply(Sums& sums, const Fragment& a, const Fragment& b) {
    amdgcn::wmma_16x16x16_bf16_halves(sums, a, b);
  }
};
#elif GPTOSS_HAS_WMMA
struct MatrixCore {
  static constexpr int kGroups = 1, kElements = 16;  // lanes l and l + 16 hold the same
  using Fragment = amdgcn::Bf16x16;
  using Sums = amdgcn::Float8;
  static constexpr int kSums = 8;
  static GPTOSS_DEVICE int row(int i) { return 2 * i + simt::lane() / 16; }
  static GPTOSS_DEVICE void multiply(Sums& sums, const Fragment& a, const Fragment& b) {
    amdgcn::wmma_16x16x16_bf16(sums, a, b);
  }
};
#endif

#if GPTOSS_HAS_MATRIX_CORE
// Which of the units that are multiplied together is this lane's.
GPTOSS_DEVICE int lane_group() { return simt::lane() / 16 % MatrixCore::kGroups; }
#endif

// A lane's part of an operand: one row or column, 32 elements of k in bf16.
struct UnitOfLane {
  uint32_t pairs[kUnitDepth / 2];
};

// Both operands in bf16.
struct Bf16Product {
  using Weights = UnitOfLane;
  using Columns = UnitOfLane;
  static GPTOSS_DEVICE void prepare(const UnitOfLane& activations, Columns& columns) {
    columns = activations;
  }
#if GPTOSS_HAS_MATRIX_CORE
  static GPTOSS_DEVICE void multiply(const Weights& w, const Columns& x, MatrixCore::Sums& sums) {
    constexpr int kPairs = MatrixCore::kElements / 2;
#pragma unroll
    for (int i = 0; i < kUnitDepth / MatrixCore::kElements; ++i) {
      MatrixCore::Fragment a, b;
      __builtin_memcpy(&a, w.pairs + i * kPairs, sizeof a);
      __builtin_memcpy(&b, x.pairs + i * kPairs, sizeof b);
      MatrixCore::multiply(sums, a, b);
    }
  }
#endif
};

}  // namespace gptoss::hip
