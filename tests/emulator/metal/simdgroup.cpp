#include "simdgroup.h"

#include "core/collective.h"
#include "core/fault.h"
#include "core/lane.h"

namespace emulator {
namespace {

void apply_nothing(Participants&) {}

void apply_product(Participants& group) {
  float a[8][8], b[8][8];
  for (int lane = 0; lane < group.size; ++lane)
    for (int slot = 0; slot < 2; ++slot) {
      const MatrixElement e = matrix_element(lane, slot);
      a[e.row][e.column] = group.operand<MatrixOperands>(lane).a[slot];
      b[e.row][e.column] = group.operand<MatrixOperands>(lane).b[slot];
    }
  for (int lane = 0; lane < group.size; ++lane)
    for (int slot = 0; slot < 2; ++slot) {
      const MatrixElement e = matrix_element(lane, slot);
      float& sum = group.operand<MatrixOperands>(lane).c[slot];
      for (int k = 0; k < 8; ++k) sum += a[e.row][k] * b[k][e.column];
    }
}

}  // namespace

void block_barrier(bool ordered, const char* name, Site site) {
  if (!ordered)
    fault(Kind::kInstruction, Where::of(site),
          "%s does not order both device and threadgroup memory: use sync_block()", name);
  syncthreads(name, site);
}

void simdgroup_barrier(bool ordered, const char* name, Site site) {
  if (!ordered)
    fault(Kind::kInstruction, Where::of(site), "%s does not order threadgroup memory: use sync_warp()", name);
  warp_barrier(true, 0xffffffff, name, site);
}

int converge(const char* name, Site site) {
  const Inside inside;
  static const Collective collective{"", Scope::kWarp, apply_nothing};
  collect(collective, 0, nullptr, site);
  (void)name;
  return self().lane;
}

void multiply_matrices(MatrixOperands& operands, Site site) {
  const Inside inside;
  static const Collective collective{"simdgroup_multiply_accumulate", Scope::kWarp, apply_product};
  collect(collective, 0, &operands, site);
}

}  // namespace emulator
