// What a product multiplies, written by the kernel that makes it: float32, or bf16 terms for matrix cores.
#pragma once

#include "../args.h"
#include "load.cuh"

namespace gptoss::simt {

// Where element i lies in a row whose terms are stepped. A warp's fragments have columns 8 t + 4 s + 2 h + e of every 32
// with lane t, as register h of step s, half e of it. Shared memory has a step's columns side by side, the lanes' pairs of a
// register one behind the other: 16 s + 8 h + 2 t + e.
GPTOSS_DEVICE size_t stepped_place(size_t i) {
  return (i & ~size_t{31}) | (i & 1) | (i >> 3 & 3) << 1 | (i >> 1 & 3) << 3;
}

// Element i of a row. Three terms of bf16 are a float32: each takes the 8 leading bits of what the ones before it left.
GPTOSS_DEVICE void store_operand(const Operand& to, size_t row, int i, float value) {
  if (to.terms == nullptr) {
    to.values[row * to.size + i] = to.round ? round_to_bf16(value) : value;
    return;
  }
  uint16_t* term = to.terms + row * to.count * to.size + (to.stepped ? stepped_place(i) : i);
  for (int n = 0; n < to.count; ++n, term += to.size) {
    const uint16_t bits = float_to_bf16(value);
    *term = bits;
    value -= bf16_to_float(bits);
  }
}

}  // namespace gptoss::simt
