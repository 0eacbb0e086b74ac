// elect.sync (sm_90): one lane of a warp that does something for all.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/elect.cuh>
#else
namespace gptoss::ptx {

// True in one of the 32 lanes, each time in the same one. All execute it together. What the compiler knows to be one lane's,
// as it does not of `lane == 0`, needs no loop around instructions that take their operands from the warp.
GPTOSS_PTX bool elect_one() {
  uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}"
      : "=r"(elected));
  return elected != 0;
}

}  // namespace gptoss::ptx
#endif
