// What the lanes of a SIMD group do together, and barriers, under the rules of Metal.
#pragma once

#include "core/machine.h"

namespace emulator {

// `ordered`: whether the call orders what the detector takes a barrier to order; if not, it is a fault.
void block_barrier(bool ordered, const char* name, Site site);
void simdgroup_barrier(bool ordered, const char* name, Site site);

// All lanes have to be at the same place; returns the caller's lane. Orders no memory.
int converge(const char* name, Site site);

// Where a lane's two elements of a matrix of 8 by 8 are.
struct MatrixElement {
  int row, column;
};
inline MatrixElement matrix_element(int lane, int slot) {
  const int index = (lane * 2 + slot) * 5 % 64;  // a permutation
  return {index / 8, index % 8};
}

// Of a lane, as float32; the result takes the place of c: a b + c, in ascending k.
struct MatrixOperands {
  float a[2], b[2], c[2];
};
void multiply_matrices(MatrixOperands& operands, Site site);

}  // namespace emulator
