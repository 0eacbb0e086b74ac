// ldmatrix and mma.sync: the fragments are as the PTX manual draws them.
#include "emulated/matrix.cuh"

#include <cstring>

#include "../core/access.h"
#include "../core/collective.h"
#include "../core/fault.h"
#include "block_scale.h"
#include "cuda_runtime.h"
#include "emulated/shared.cuh"

namespace gptoss::ptx {
namespace {

using namespace ::emulator;

float widen(uint32_t pair, int half) { return std::bit_cast<float>((pair >> (16 * half)) << 16); }

// --- ldmatrix

struct LoadOperand {
  const uint16_t* row;  // of lanes below 8 times the number of matrices
  uint32_t* fragment;
  int matrices;
  bool transposed;
};

void apply_load(Participants& warp) {
  const int matrices = warp.operand<LoadOperand>(0).matrices;
  for (int m = 0; m < matrices; ++m) {
    uint16_t matrix[8][8];
    for (int r = 0; r < 8; ++r)
      std::memcpy(matrix[r], warp.operand<LoadOperand>(8 * m + r).row, sizeof matrix[r]);
    for (int lane = 0; lane < 32; ++lane) {
      const LoadOperand& operand = warp.operand<LoadOperand>(lane);
      const int row = lane / 4, column = lane % 4 * 2;
      const uint16_t low = operand.transposed ? matrix[column][row] : matrix[row][column];
      const uint16_t high = operand.transposed ? matrix[column + 1][row] : matrix[row][column + 1];
      operand.fragment[m] = low | static_cast<uint32_t>(high) << 16;
    }
  }
}

void load(uint32_t* fragment, int matrices, bool transposed, const void* row, Site site) {
  const Inside inside;
  static const Collective kLoad{"ldmatrix", Scope::kWarp, apply_load};
  if (self().lane < 8 * matrices) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
      fault(Kind::kMisaligned, Where::of(site), "ldmatrix: the address of a row is not a multiple of 16");
    ::emulator::shared_address(row, 16, "ldmatrix", site);
    check_access(row, 16, Access::kRead, Where::of(site));
  }
  LoadOperand operand{static_cast<const uint16_t*>(row), fragment, matrices, transposed};
  collect(kLoad, 0, &operand, site);
}

// --- movmatrix

struct MoveOperand {
  uint32_t matrix;
  uint32_t* result;
};

void apply_move(Participants& warp) {
  uint16_t matrix[8][8];
  for (int lane = 0; lane < 32; ++lane)
    for (int half = 0; half < 2; ++half)
      matrix[lane / 4][lane % 4 * 2 + half] = static_cast<uint16_t>(warp.operand<MoveOperand>(lane).matrix >> (16 * half));
  for (int lane = 0; lane < 32; ++lane) {
    const int row = lane / 4, column = lane % 4 * 2;
    *warp.operand<MoveOperand>(lane).result = matrix[column][row] | static_cast<uint32_t>(matrix[column + 1][row]) << 16;
  }
}

// --- mma.sync

struct ProductOperand {
  float* d;
  const uint32_t *a, *b;
};

void apply_product(Participants& warp) {
  float a[16][16], b[8][16];
  for (int lane = 0; lane < 32; ++lane) {
    const ProductOperand& operand = warp.operand<ProductOperand>(lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half)
        a[g + i % 2 * 8][2 * t + half + i / 2 * 8] = widen(operand.a[i], half);
    for (int i = 0; i < 2; ++i)
      for (int half = 0; half < 2; ++half) b[g][2 * t + half + i * 8] = widen(operand.b[i], half);
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = warp.operand<ProductOperand>(lane).d;
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[column][k];
      d[i] += sum;
    }
  }
}

// --- mma.sync with block scaling

struct ScaledOperand {
  float* d;
  const uint32_t *a, *b;
  uint32_t a_scales, b_scales;
  int byte_a, byte_b;  // of the scales
  Site site;
};

// Only bits 2 to 5 of a byte: what the others hold is nowhere said to be looked at or not, so they have to be 0.
float e2m1_of(uint32_t byte, Site site) {
  if ((byte & ~0x3cu) != 0)
    fault(Kind::kInstruction, Where::of(site), "mma.sync with block scaling: a byte of e2m1 has bits outside of 2 to 5");
  return e2m1_value(byte >> 2 & 15);
}

void apply_scaled_product(Participants& warp) {
  float a[16][32], b[8][32];
  for (int lane = 0; lane < 32; ++lane) {
    const ScaledOperand& operand = warp.operand<ScaledOperand>(lane);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      for (int byte = 0; byte < 4; ++byte)
        a[g + i % 2 * 8][4 * t + byte + i / 2 * 16] = e2m1_of(operand.a[i] >> (8 * byte) & 255, operand.site);
    for (int i = 0; i < 2; ++i)
      for (int byte = 0; byte < 4; ++byte) b[g][4 * t + byte + i * 16] = e4m3_value(operand.b[i] >> (8 * byte) & 255);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const ScaledOperand& operand = warp.operand<ScaledOperand>(lane);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      const ScaledOperand& of_row = warp.operand<ScaledOperand>(row % 8 * 4 + row / 8);
      const ScaledOperand& of_column = warp.operand<ScaledOperand>(column * 4);
      float sum = 0;
      for (int k = 0; k < 32; ++k) sum += a[row][k] * b[column][k];
      operand.d[i] += scaled(sum, of_row.a_scales >> (8 * operand.byte_a), of_column.b_scales >> (8 * operand.byte_b));
    }
  }
}

}  // namespace

void ldmatrix_x4(uint32_t (&fragment)[4], const void* row, Site site) { load(fragment, 4, false, row, site); }
void ldmatrix_x2(uint32_t (&fragment)[2], const void* row, Site site) { load(fragment, 2, false, row, site); }
void ldmatrix_x4_trans(uint32_t (&fragment)[4], const void* row, Site site) {
  load(fragment, 4, true, row, site);
}
void ldmatrix_x2_trans(uint32_t (&fragment)[2], const void* row, Site site) {
  load(fragment, 2, true, row, site);
}

uint32_t movmatrix_trans(uint32_t matrix, Site site) {
  const Inside inside;
  static const Collective kMove{"movmatrix", Scope::kWarp, apply_move};
  uint32_t result = 0;
  MoveOperand operand{matrix, &result};
  collect(kMove, 0, &operand, site);
  return result;
}

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site) {
  const Inside inside;
  static const Collective kProduct{"mma.sync", Scope::kWarp, apply_product};
  ProductOperand operand{d, a, b};
  collect(kProduct, 0, &operand, site);
}

void mma_m16n8k32_e2m1_e4m3(int byte_a, int byte_b, float (&d)[4], const uint32_t (&a)[4], uint32_t a_scales,
                            const uint32_t (&b)[2], uint32_t b_scales, Site site) {
  const Inside inside;
  static const Collective kProduct{"mma.sync with block scaling", Scope::kWarp, apply_scaled_product};
  ScaledOperand operand{d, a, b, a_scales, b_scales, byte_a, byte_b, site};
  collect(kProduct, 0, &operand, site);
}

}  // namespace gptoss::ptx
