// The words of the language that CUDA and HIP share: qualifiers, indices, vector types, barriers, atomics, and the
// functions of the device library that have no warp in them.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>

#include "lane.h"

#define GPTOSS_EMULATOR 1

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) alignas(n)
// Variables of a block: see shared_memory.cpp. Write `alignas(16) __shared__ T x[n]`, in this order.
#define __shared__ thread_local

inline constexpr const ::emulator::Dim3& threadIdx = ::emulator::place.thread;
inline constexpr const ::emulator::Dim3& blockIdx = ::emulator::place.block;
inline constexpr const ::emulator::Dim3& blockDim = ::emulator::place.block_extent;
inline constexpr const ::emulator::Dim3& gridDim = ::emulator::place.grid_extent;

using dim3 = ::emulator::Dim3;

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(4) ushort2 { unsigned short x, y; };
struct alignas(8) ushort4 { unsigned short x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// --- Barriers and fences

inline void __syncthreads(::emulator::Site site = ::emulator::Site::current()) {
  ::emulator::syncthreads("__syncthreads", site);
}
int __syncthreads_count(int predicate, ::emulator::Site site = ::emulator::Site::current());
inline int __syncthreads_or(int predicate, ::emulator::Site site = ::emulator::Site::current()) {
  return __syncthreads_count(predicate, site) != 0;
}
inline int __syncthreads_and(int predicate, ::emulator::Site site = ::emulator::Site::current()) {
  return __syncthreads_count(!predicate, site) == 0;
}
inline void __threadfence() { ::emulator::thread_fence(); }
inline void __threadfence_block() { ::emulator::thread_fence(); }
inline void __threadfence_system() { ::emulator::thread_fence(); }

// --- Atomics

#define EMULATOR_ATOMIC(name, how)                                                                               \
  template <class T>                                                                                             \
  T name(T* address, std::type_identity_t<T> value, ::emulator::Site site = ::emulator::Site::current()) {       \
    return ::emulator::atomic_value<T>(::emulator::Atomic::how, address, value, T{}, #name, site);               \
  }
EMULATOR_ATOMIC(atomicAdd, kAdd)
EMULATOR_ATOMIC(atomicMin, kMin)
EMULATOR_ATOMIC(atomicMax, kMax)
EMULATOR_ATOMIC(atomicAnd, kAnd)
EMULATOR_ATOMIC(atomicOr, kOr)
EMULATOR_ATOMIC(atomicXor, kXor)
EMULATOR_ATOMIC(atomicExch, kExchange)
#undef EMULATOR_ATOMIC
template <class T>
T atomicSub(T* address, std::type_identity_t<T> value, ::emulator::Site site = ::emulator::Site::current()) {
  return ::emulator::atomic_value<T>(::emulator::Atomic::kAdd, address, static_cast<T>(-value), T{}, "atomicSub", site);
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value,
            ::emulator::Site site = ::emulator::Site::current()) {
  return ::emulator::atomic_value<T>(::emulator::Atomic::kCompareExchange, address, value, compare, "atomicCAS", site);
}

// --- Arithmetic. The approximate functions are exact here: fast-math is not modelled.

inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __saturatef(float x) { return x != x ? 0.0f : std::clamp(x, 0.0f, 1.0f); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
  return r;
}
inline unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(uint64_t{x} * y >> 32); }

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}

using std::max;
using std::min;
