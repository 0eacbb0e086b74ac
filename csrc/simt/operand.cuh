// What a product multiplies, written by the kernel that makes it: float32, or bf16 terms for matrix cores.
#pragma once

#include "../args.h"
#include "load.cuh"

namespace gptoss::simt {

// Element i of a row. Three terms of bf16 are a float32: each takes the 8 leading bits of what the ones before it left.
GPTOSS_DEVICE void store_operand(const Operand& to, size_t row, int i, float value) {
  if (to.terms == nullptr) {
    to.values[row * to.size + i] = to.round ? round_to_bf16(value) : value;
    return;
  }
  uint16_t* term = to.terms + row * to.count * to.size + i;
  for (int n = 0; n < to.count; ++n, term += to.size) {
    const uint16_t bits = float_to_bf16(value);
    *term = bits;
    value -= bf16_to_float(bits);
  }
}

}  // namespace gptoss::simt
