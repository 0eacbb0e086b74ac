// What Metal's language calls differently than csrc/simt/port.cuh, under the names that are used there, so that a
// kernel here reads as its namesake there. What remains different: pointers name the memory that they point into, a
// kernel is told where it is by its parameters, and what needs float64 or a 64-bit atomic has another text.
#pragma once

#include <metal_stdlib>

// A product and a sum are fused only where the source says so, as on every other device. The host asks for safe
// arithmetic, too, when it compiles (runtime/device.cpp); contraction is decided here alone.
#pragma METAL fp math_mode(safe)
#pragma METAL fp contract(off)
#pragma clang fp contract(off)

using namespace metal;

#include "args.h"
#include "numeric.h"

namespace gptoss {

using U64 = ulong;

constant constexpr int kWarp = 32;  // a SIMD group of every Apple GPU; the host checks it

// The last parameters of every kernel. A block is a threadgroup, a warp a SIMD group.
#define GPTOSS_PLACE                                                                               \
  uint3 block [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]], \
      uint lane [[thread_index_in_simdgroup]], uint warp [[simdgroup_index_in_threadgroup]]
// And of those whose threads stride over something.
#define GPTOSS_STRIDES \
  uint3 block_extent [[threads_per_threadgroup]], uint3 grid_extent [[threadgroups_per_grid]]

// --- Barriers. Of a block: for its threads' stores to both memories, as __syncthreads() is. Macros, so that whoever
// watches barriers sees the kernel's own line.

#define sync_block() threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup)
#define sync_warp() simdgroup_barrier(mem_flags::mem_threadgroup)

// --- Arithmetic: the variants that keep infinities, NaN and all bits, whatever the compiler's options say.

inline float expf(float x) { return precise::exp(x); }
inline float logf(float x) { return precise::log(x); }
inline float sqrtf(float x) { return precise::sqrt(x); }
inline float fabsf(float x) { return fabs(x); }
inline float fmaf(float x, float y, float z) { return fma(x, y, z); }
inline float fmaxf(float x, float y) { return fmax(x, y); }
inline float fminf(float x, float y) { return fmin(x, y); }

// --- Collectives of a whole warp: every lane calls them.

inline float shuffle_xor(float value, ushort mask) { return simd_shuffle_xor(value, mask); }
inline int shuffle_xor(int value, ushort mask) { return simd_shuffle_xor(value, mask); }
inline uint shuffle_xor(uint value, ushort mask) { return simd_shuffle_xor(value, mask); }
// 64 bits go in two halves: shuffles have 32.
inline U64 shuffle_xor(U64 value, ushort mask) {
  const uint low = shuffle_xor(static_cast<uint>(value), mask);
  const uint high = shuffle_xor(static_cast<uint>(value >> 32), mask);
  return static_cast<U64>(high) << 32 | low;
}

inline int shuffle(int value, uint from) { return simd_shuffle(value, static_cast<ushort>(from)); }
inline uint shuffle(uint value, uint from) { return simd_shuffle(value, static_cast<ushort>(from)); }
inline U64 shuffle(U64 value, uint from) {
  const uint low = shuffle(static_cast<uint>(value), from);
  const uint high = shuffle(static_cast<uint>(value >> 32), from);
  return static_cast<U64>(high) << 32 | low;
}

// The sum of the values of all lanes up to this one.
template <class T>
inline T warp_sum_up_to(T value, uint lane) {
  for (uint distance = 1; distance < kWarp; distance *= 2) {
    const T other = shuffle(value, lane >= distance ? lane - distance : lane);
    if (lane >= distance) value += other;
  }
  return value;
}

// Sum and maximum over the lanes of a warp, in every lane; the order of the additions is fixed.
inline float warp_sum(float value) {
  for (ushort mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
  return value;
}
inline float warp_max(float value) {
  for (ushort mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
  return value;
}

}  // namespace gptoss
