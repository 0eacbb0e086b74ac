// The emulator's twins of ptx/registers.cuh: it has no registers to give.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

template <int kRegisters>
void give_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}
template <int kRegisters>
void take_registers() {
  static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
}

}  // namespace gptoss::ptx
