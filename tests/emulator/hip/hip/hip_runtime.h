// HIP's language and host API for kernels that run in the emulator: what CUDA does not share. The rest is in
// core/language.h and runtime/api.inl.
#pragma once

#include <cstdint>

#include "../../core/language.h"
#include "../../runtime/calls.h"

#define GPTOSS_EMULATOR_HIP 1
#ifndef __HIP_PLATFORM_AMD__
#define __HIP_PLATFORM_AMD__ 1
#endif

// The lanes of a wave, for all kernels of a program: 64 as on CDNA, or 32 as on RDNA; with GPTOSS_EMULATED_GFX12 it is
// RDNA 4, which has other matrix instructions.
#ifndef GPTOSS_EMULATED_WAVE
#define GPTOSS_EMULATED_WAVE 64
#endif
constexpr int warpSize = GPTOSS_EMULATED_WAVE;

// --- Wave collectives: whoever executes them takes part.

using EmulatorSite = ::emulator::Site;

#define EMULATOR_SHUFFLE(name, how)                                                                        \
  template <class T>                                                                                       \
  T name(T value, int lane, int width = warpSize, EmulatorSite site = EmulatorSite::current()) {           \
    return ::emulator::shuffle_value(::emulator::Shuffle::how, false, 0, value, lane, width, #name, site); \
  }
EMULATOR_SHUFFLE(__shfl, kIndex)
EMULATOR_SHUFFLE(__shfl_up, kUp)
EMULATOR_SHUFFLE(__shfl_down, kDown)
EMULATOR_SHUFFLE(__shfl_xor, kXor)
#undef EMULATOR_SHUFFLE

inline unsigned long long __ballot(int vote, EmulatorSite site = EmulatorSite::current()) {
  return ::emulator::ballot(false, 0, vote != 0, "__ballot", site);
}
inline int __any(int vote, EmulatorSite site = EmulatorSite::current()) {
  return ::emulator::ballot(false, 0, vote != 0, "__any", site) != 0;
}
inline int __all(int vote, EmulatorSite site = EmulatorSite::current()) {
  return ::emulator::ballot(false, 0, vote == 0, "__all", site) == 0;
}

// The compiler's builtins. Memory of a wave's lanes is ordered by fences around a wave barrier: the barrier
// does it.
#define __builtin_amdgcn_fence(order, scope) ((void)0)
#define __builtin_amdgcn_wave_barrier() \
  ::emulator::warp_barrier(false, 0, "wave barrier", ::emulator::Site::current())
#define __builtin_amdgcn_s_barrier() ::emulator::syncthreads("s_barrier", ::emulator::Site::current())

// --- The host's calls

#define GPU(name) hip##name
#include "../../runtime/api.inl"
#undef GPU

constexpr hipError_t hipErrorOutOfMemory = hipErrorMemoryAllocation;
constexpr unsigned hipHostMallocDefault = 0;
template <class T>
hipError_t hipHostMalloc(T** pointer, size_t bytes, unsigned = hipHostMallocDefault) {
  return hipMallocHost(pointer, bytes);
}
inline hipError_t hipHostFree(void* pointer) { return hipFreeHost(pointer); }

struct hipDeviceProp_t {
  char name[256] = "Emulated GPU";
#if GPTOSS_EMULATED_WAVE == 64
  char gcnArchName[256] = "gfx950:sramecc+:xnack-";  // which has the instructions of gfx942, and others
#elif defined(GPTOSS_EMULATED_GFX12)
  char gcnArchName[256] = "gfx1201";
#else
  char gcnArchName[256] = "gfx1100";
#endif
  int multiProcessorCount = 4;
  int warpSize = GPTOSS_EMULATED_WAVE;
  size_t totalGlobalMem = 0;
  size_t sharedMemPerBlock = ::emulator::kLocalDataShare;
  int maxThreadsPerBlock = ::emulator::kMaxThreads;
};
inline hipError_t hipGetDeviceProperties(hipDeviceProp_t* properties, int) {
  *properties = {};
  size_t free = 0;
  ::emulator::memory_info(&free, &properties->totalGlobalMem);
  return hipSuccess;
}

enum hipDeviceAttribute_t { hipDeviceAttributeWarpSize };
inline hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t, int) {
  *value = GPTOSS_EMULATED_WAVE;
  return hipSuccess;
}

template <class... P, class... A>
void hipLaunchKernelGGL(void (*kernel)(P...), dim3 grid, dim3 block, size_t dynamic_shared,
                        hipStream_t stream, A&&... arguments) {
  ::emulator::Launch launch = ::emulator::make_launch(kernel, grid, block, dynamic_shared,
                                                      GPTOSS_EMULATED_WAVE, std::forward<A>(arguments)...);
  launch.shared_limit = ::emulator::kLocalDataShare;
  ::emulator::launch_kernel(std::move(launch), hipToStream(stream));
}
