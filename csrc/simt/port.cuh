// The one file that knows CUDA from HIP: what a kernel that runs on both may use beyond the language itself.
//
// Metal's kernels are another text, in metal/; of this file it has the host's part (GPTOSS_METAL_HOST), with a runtime of
// the same calls, metal/runtime.
//
// The emulator of tests/emulator comes in by its own <cuda_runtime.h> and <hip/hip_runtime.h>; only what no
// header can stand for is told apart here.
#pragma once

#if defined(GPTOSS_METAL_HOST)
#define GPTOSS_METAL_DEVICE 1
#include <metal_runtime.h>
#elif defined(__HIP__) || defined(__HIP_PLATFORM_AMD__)
#define GPTOSS_HIP_DEVICE 1
#include <hip/hip_runtime.h>
#else
#define GPTOSS_CUDA_DEVICE 1
#include <cuda_runtime.h>
#endif

#include <stddef.h>
#include <stdint.h>

#include "../numeric.h"

// The host API differs in its prefix: GPU(Malloc)(&pointer, bytes).
#if GPTOSS_METAL_DEVICE
#define GPU(name) metal##name
#elif GPTOSS_HIP_DEVICE
#define GPU(name) hip##name
#else
#define GPU(name) cuda##name
#endif

// `GPTOSS_DYNAMIC_SHARED(float, tile);` makes `tile` the block's dynamic shared memory, at a multiple of 1024
// bytes, which is what the widest swizzle of a tensor copy needs.
#if defined(GPTOSS_EMULATOR)
#define GPTOSS_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::emulator::dynamic_shared())
#else
#define GPTOSS_DYNAMIC_SHARED(type, name)                                  \
  extern __shared__ __align__(1024) unsigned char gptoss_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(gptoss_dynamic_shared)
#endif

namespace gptoss::simt {

// Lanes of a warp (CUDA), a SIMD group (Metal) or a wave (HIP: 64 on CDNA, 32 on RDNA).
#if GPTOSS_CUDA_DEVICE || GPTOSS_METAL_DEVICE || defined(__GFX10__) || defined(__GFX11__) || defined(__GFX12__)
constexpr int kWarp = 32;
#elif defined(GPTOSS_EMULATED_WAVE)
constexpr int kWarp = GPTOSS_EMULATED_WAVE;
#else
constexpr int kWarp = 64;
#endif

// bf16 as bits, so that no vendor's type crosses an interface.
using gptoss::bf16_to_float;
using gptoss::float_to_bf16;

#if !GPTOSS_METAL_DEVICE
#define GPTOSS_DEVICE __device__ __forceinline__

// --- Collectives of a whole warp: every lane calls them.

#if GPTOSS_HIP_DEVICE
template <class T>
GPTOSS_DEVICE T shuffle(T value, int lane, int width = kWarp) {
  return __shfl(value, lane, width);
}
template <class T>
GPTOSS_DEVICE T shuffle_xor(T value, int mask, int width = kWarp) {
  return __shfl_xor(value, mask, width);
}
template <class T>
GPTOSS_DEVICE T shuffle_down(T value, int distance, int width = kWarp) {
  return __shfl_down(value, distance, width);
}
// A wave runs in lockstep; what its lanes wrote to shared memory has to be ordered all the same.
GPTOSS_DEVICE void sync_warp() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
  __builtin_amdgcn_wave_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
}
#else
constexpr unsigned kAllLanes = 0xffffffffu;
template <class T>
GPTOSS_DEVICE T shuffle(T value, int lane, int width = kWarp) {
  return __shfl_sync(kAllLanes, value, lane, width);
}
template <class T>
GPTOSS_DEVICE T shuffle_xor(T value, int mask, int width = kWarp) {
  return __shfl_xor_sync(kAllLanes, value, mask, width);
}
template <class T>
GPTOSS_DEVICE T shuffle_down(T value, int distance, int width = kWarp) {
  return __shfl_down_sync(kAllLanes, value, distance, width);
}
GPTOSS_DEVICE void sync_warp() { __syncwarp(); }
#endif

GPTOSS_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
GPTOSS_DEVICE int warp() { return static_cast<int>(threadIdx.x) / kWarp; }

// Sum and maximum over the lanes of a warp, in every lane; the order of the additions is fixed.
GPTOSS_DEVICE float warp_sum(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
GPTOSS_DEVICE float warp_max(float value) {
#pragma unroll
  for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

// --- Dependent launches

// The first statement of every kernel of a step, or what comes behind reads of what no kernel of the step writes: from
// here on it may read what its predecessors wrote, and write. Then the next kernel may begin, up to its own wait. A block
// that left without it would let its successors begin too early. CUDA, where the launch was a programmatic one.
GPTOSS_DEVICE void wait_for_predecessors() {
#if GPTOSS_CUDA_DEVICE && (defined(GPTOSS_EMULATOR) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900))
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

#endif  // !GPTOSS_METAL_DEVICE

// --- Launches

struct LaunchConfig {
  dim3 grid, block;
  size_t dynamic_shared = 0;  // bytes; beyond 48 KiB the kernel has to be told, see allow_dynamic_shared()
  GPU(Stream_t) stream = nullptr;
  bool programmatic = false;  // may begin before its predecessor's end (CUDA); see wait_for_predecessors()
};

// launch(kernel, {.grid = 4, .block = 128}, arguments...): the one way to start a kernel. What differs from
// replay to replay of a graph must not be an argument: arguments are copied when the graph is captured.
#if GPTOSS_METAL_DEVICE
template <class Args>
struct Kernel;  // see metal/runtime/metal_kernels.h
template <class Args>
using KernelOf = Kernel<Args>;
#else
template <class Args>
using KernelOf = void (*)(Args);
#endif
#if defined(__CUDACC__) || defined(__HIPCC__) || defined(GPTOSS_EMULATOR)
template <class... P, class... A>
GPU(Error_t)
launch(void (*kernel)(P...), const LaunchConfig& config, A&&... arguments) {
#if GPTOSS_HIP_DEVICE
  hipLaunchKernelGGL(kernel, config.grid, config.block, config.dynamic_shared, config.stream,
                     static_cast<A&&>(arguments)...);
  return hipGetLastError();
#else
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t native = {};
  native.gridDim = config.grid;
  native.blockDim = config.block;
  native.dynamicSmemBytes = config.dynamic_shared;
  native.stream = config.stream;
  native.attrs = &attribute;
  native.numAttrs = config.programmatic ? 1 : 0;
  return cudaLaunchKernelEx(&native, kernel, static_cast<A&&>(arguments)...);
#endif
}

template <class... P>
GPU(Error_t)
allow_dynamic_shared(void (*kernel)(P...), size_t bytes) {
#if GPTOSS_HIP_DEVICE
  return hipFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             hipFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
#else
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
#endif
}
#endif

}  // namespace gptoss::simt
