// setmaxnreg (sm_90a): a warpgroup gives registers back, or takes some that others gave. Its four warps execute it together.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/registers.cuh>
#else
namespace gptoss::ptx {

// From now on a thread has at most kRegisters, a multiple of 8: fewer than before.
template <int kRegisters>
GPTOSS_PTX void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// More than before; waits until others have given them.
template <int kRegisters>
GPTOSS_PTX void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace gptoss::ptx
#endif
