// Stands in for ROCm's header where there is only a clang with the AMDGPU target: enough to compile kernels to
// instructions. No build of the product uses it.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __forceinline__ inline __attribute__((always_inline))
#define STAND_IN_BOUNDS(threads) __attribute__((amdgpu_flat_work_group_size(1, threads)))
#define STAND_IN_BOUNDS_AND_WAVES(threads, waves) STAND_IN_BOUNDS(threads) __attribute__((amdgpu_waves_per_eu(waves)))
#define STAND_IN_THIRD(a, b, third, ...) third
#define __launch_bounds__(...) \
  STAND_IN_THIRD(__VA_ARGS__, STAND_IN_BOUNDS_AND_WAVES, STAND_IN_BOUNDS, unused)(__VA_ARGS__)
#define __align__(n) __attribute__((aligned(n)))

// threadIdx.x and its kind are calls of builtins behind properties.
#define STAND_IN_INDEX(name, read)                           \
  struct name##_t {                                          \
    __declspec(property(get = get_x)) unsigned x;            \
    __declspec(property(get = get_y)) unsigned y;            \
    __declspec(property(get = get_z)) unsigned z;            \
    __device__ unsigned get_x() const { return read(x, 0); } \
    __device__ unsigned get_y() const { return read(y, 1); } \
    __device__ unsigned get_z() const { return read(z, 2); } \
  };                                                         \
  extern const __device__ __attribute__((weak)) name##_t name;
#define STAND_IN_THREAD(axis, i) __builtin_amdgcn_workitem_id_##axis()
#define STAND_IN_BLOCK(axis, i) __builtin_amdgcn_workgroup_id_##axis()
#define STAND_IN_EXTENT(type) \
  ((const __attribute__((address_space(4))) type*)__builtin_amdgcn_implicitarg_ptr())
#define STAND_IN_BLOCK_EXTENT(axis, i) STAND_IN_EXTENT(uint16_t)[6 + i]
#define STAND_IN_GRID_EXTENT(axis, i) STAND_IN_EXTENT(uint32_t)[i]
STAND_IN_INDEX(threadIdx, STAND_IN_THREAD)
STAND_IN_INDEX(blockIdx, STAND_IN_BLOCK)
STAND_IN_INDEX(blockDim, STAND_IN_BLOCK_EXTENT)
STAND_IN_INDEX(gridDim, STAND_IN_GRID_EXTENT)

#if defined(__GFX11__) || defined(__GFX12__)
constexpr int warpSize = 32;
#else
constexpr int warpSize = 64;
#endif

#define STAND_IN static __device__ __forceinline__
STAND_IN void __syncthreads() {
  __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
  __builtin_amdgcn_s_barrier();
  __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
STAND_IN void __threadfence() { __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "agent"); }
STAND_IN int __lane_id() { return __builtin_amdgcn_mbcnt_hi(~0u, __builtin_amdgcn_mbcnt_lo(~0u, 0)); }
extern "C" __device__ int __ockl_wgred_or_i32(int);
STAND_IN int __syncthreads_or(int predicate) { return __ockl_wgred_or_i32(predicate != 0); }
template <class T>
STAND_IN T stand_in_permute(T value, int lane) {
  struct Words {
    int word[sizeof(T) / 4];
  };
  Words words = __builtin_bit_cast(Words, value);
  for (int& word : words.word) word = __builtin_amdgcn_ds_bpermute(lane << 2, word);
  return __builtin_bit_cast(T, words);
}
template <class T>
STAND_IN T __shfl(T value, int lane, int width) {
  return stand_in_permute(value, (lane & (width - 1)) + (__lane_id() & ~(width - 1)));
}
template <class T>
STAND_IN T __shfl_xor(T value, int mask, int) {
  return stand_in_permute(value, __lane_id() ^ mask);
}
template <class T>
STAND_IN T __shfl_down(T value, int distance, int) {
  return stand_in_permute(value, __lane_id() + distance);
}
STAND_IN unsigned long long __ballot(int vote) { return __builtin_amdgcn_ballot_w64(vote != 0); }
template <class T>
STAND_IN T atomicAdd(T* address, T value) {
  return __hip_atomic_fetch_add(address, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Functions of the device libraries (ocml.bc), and those that are instructions.
#define STAND_IN_OCML(name, type, suffix)             \
  extern "C" __device__ type __ocml_##name##suffix(type); \
  STAND_IN type name(type x) { return __ocml_##name##suffix(x); }
STAND_IN_OCML(exp, double, _f64)
STAND_IN_OCML(log, double, _f64)
STAND_IN_OCML(sin, double, _f64)
STAND_IN_OCML(cos, double, _f64)
extern "C" __device__ float __ocml_exp_f32(float);
extern "C" __device__ float __ocml_log_f32(float);
STAND_IN float expf(float x) { return __ocml_exp_f32(x); }
STAND_IN float logf(float x) { return __ocml_log_f32(x); }
STAND_IN float sqrtf(float x) { return __builtin_sqrtf(x); }
STAND_IN float fabsf(float x) { return __builtin_fabsf(x); }
STAND_IN float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
STAND_IN float fmaxf(float x, float y) { return __builtin_fmaxf(x, y); }
STAND_IN float fminf(float x, float y) { return __builtin_fminf(x, y); }
STAND_IN int min(int x, int y) { return x < y ? x : y; }
STAND_IN int max(int x, int y) { return x < y ? y : x; }
STAND_IN float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
STAND_IN unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }

// The host's part, declared only.
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
enum hipError_t { hipSuccess };
enum hipFuncAttribute { hipFuncAttributeMaxDynamicSharedMemorySize };
using hipStream_t = struct ihipStream_t*;
using hipEvent_t = struct ihipEvent_t*;
using hipGraphExec_t = struct hipGraphExec*;
struct hipDeviceProp_t {
  char gcnArchName[256];
  int multiProcessorCount, warpSize;
};
hipError_t hipGetDevice(int*);
hipError_t hipGetDeviceProperties(hipDeviceProp_t*, int);
hipError_t hipGetLastError();
hipError_t hipFuncSetAttribute(const void*, hipFuncAttribute, int);
template <class K, class... A>
void hipLaunchKernelGGL(K kernel, dim3 grid, dim3 block, size_t shared, hipStream_t stream, A&&... arguments);
