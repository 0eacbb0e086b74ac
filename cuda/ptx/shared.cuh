// Addresses in shared memory, as PTX wants them: 32 bits, relative to the shared window.
#pragma once

#include "simt/port.cuh"

// A function of one PTX instruction. The emulator has the same functions under the same names, and only there do
// they take a hidden last argument: the line of the call.
#define GPTOSS_PTX __device__ __forceinline__

#if defined(GPTOSS_EMULATOR)
#include <emulated/shared.cuh>
#else
namespace gptoss::ptx {

GPTOSS_PTX uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace gptoss::ptx
#endif
