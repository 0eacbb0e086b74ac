// CUDA's language and host API for kernels that run in the emulator: what HIP does not share. The rest is in
// core/language.h and runtime/api.inl.
#pragma once

#include <cstdint>

#include "../core/language.h"
#include "../runtime/calls.h"

#define GPTOSS_EMULATOR_CUDA 1
constexpr int warpSize = 32;

// --- Warp collectives: they name the lanes that take part.

using EmulatorSite = ::emulator::Site;

#define EMULATOR_SHUFFLE(name, how)                                                                          \
  template <class T>                                                                                         \
  T name(unsigned mask, T value, int lane, int width = 32, EmulatorSite site = EmulatorSite::current()) {    \
    return ::emulator::shuffle_value(::emulator::Shuffle::how, true, mask, value, lane, width, #name, site); \
  }
EMULATOR_SHUFFLE(__shfl_sync, kIndex)
EMULATOR_SHUFFLE(__shfl_up_sync, kUp)
EMULATOR_SHUFFLE(__shfl_down_sync, kDown)
EMULATOR_SHUFFLE(__shfl_xor_sync, kXor)
#undef EMULATOR_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int vote, EmulatorSite site = EmulatorSite::current()) {
  return static_cast<unsigned>(::emulator::ballot(true, mask, vote != 0, "__ballot_sync", site));
}
inline int __any_sync(unsigned mask, int vote, EmulatorSite site = EmulatorSite::current()) {
  return ::emulator::ballot(true, mask, vote != 0, "__any_sync", site) != 0;
}
inline int __all_sync(unsigned mask, int vote, EmulatorSite site = EmulatorSite::current()) {
  return ::emulator::ballot(true, mask, vote == 0, "__all_sync", site) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, EmulatorSite site = EmulatorSite::current()) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return static_cast<unsigned>(
      ::emulator::match(::emulator::Match::kAny, mask, bits, "__match_any_sync", site));
}
inline void __syncwarp(unsigned mask = 0xffffffffu, EmulatorSite site = EmulatorSite::current()) {
  ::emulator::warp_barrier(true, mask, "__syncwarp", site);
}

inline void cudaGridDependencySynchronize(EmulatorSite site = EmulatorSite::current()) { ::emulator::dependency_wait(site); }
inline void cudaTriggerProgrammaticLaunchCompletion() { ::emulator::trigger_dependents(); }

#define EMULATOR_REDUCE(name, how)                                                                           \
  inline unsigned name(unsigned mask, unsigned value, EmulatorSite site = EmulatorSite::current()) {         \
    return static_cast<unsigned>(                                                                            \
        ::emulator::reduce(::emulator::Reduce::how, false, mask, value, #name, site));                       \
  }                                                                                                          \
  inline int name(unsigned mask, int value, EmulatorSite site = EmulatorSite::current()) {                   \
    return static_cast<int>(                                                                                 \
        ::emulator::reduce(::emulator::Reduce::how, true, mask, static_cast<unsigned>(value), #name, site)); \
  }
EMULATOR_REDUCE(__reduce_add_sync, kAdd)
EMULATOR_REDUCE(__reduce_min_sync, kMin)
EMULATOR_REDUCE(__reduce_max_sync, kMax)
#undef EMULATOR_REDUCE

// prmt.b32: any four of the eight bytes of y:x, the sign of each byte repeated where the selector's top bit
// says so.
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned choice = selector >> (4 * i) & 0xf;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (choice & 7))) & 0xff;
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

// --- The host's calls

#define GPU(name) cuda##name
#include "../runtime/api.inl"
#undef GPU

struct cudaDeviceProp {
  char name[256] = "Emulated GPU";
  int major = 9, minor = 0;
  int multiProcessorCount = 4;
  int warpSize = 32;
  size_t totalGlobalMem = 0;
  size_t sharedMemPerBlock = ::emulator::kSharedMemory;
  size_t sharedMemPerBlockOptin = ::emulator::kSharedMemoryOptIn;
  size_t sharedMemPerMultiprocessor = ::emulator::kSharedMemoryOptIn + 1024;
  int maxThreadsPerBlock = ::emulator::kMaxThreads;
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  size_t free = 0;
  ::emulator::memory_info(&free, &properties->totalGlobalMem);
  return cudaSuccess;
}

enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
union cudaLaunchAttributeValue {
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  cudaLaunchAttribute* attrs = nullptr;
  unsigned numAttrs = 0;
};

template <class... P, class... A>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  ::emulator::Launch launch = ::emulator::make_launch(
      kernel, config->gridDim, config->blockDim, config->dynamicSmemBytes, 32, std::forward<A>(arguments)...);
  for (unsigned i = 0; i < config->numAttrs; ++i)
    if (config->attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization)
      launch.programmatic = config->attrs[i].val.programmaticStreamSerializationAllowed != 0;
  return cudaFromStatus(::emulator::launch_kernel(std::move(launch), cudaToStream(config->stream)));
}

enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1
};
constexpr unsigned long long cudaEnableDefault = 0;
// The one function of the driver that is asked for: cuTensorMapEncodeTiled, from cuda.h.
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult* result);
