// What a product multiplies, written by the kernel that makes it. Terms of bf16 are other devices': here it is float32.
#pragma once

#include "load.h"

namespace gptoss {

inline void store_operand(constant Operand& to, size_t row, int i, float value) {
  to.values[row * to.size + i] = to.round ? round_to_bf16(value) : value;
}

}  // namespace gptoss
