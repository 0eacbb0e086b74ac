// What C++, CUDA, HIP and Metal call differently, for the headers that all of them include.
//
// Metal's language has no standard library, and names the memory that a pointer points into. Nothing else is told
// apart here: shared functions take and return values.
#pragma once

#if defined(__METAL_VERSION__)
#define GPTOSS_MEMORY device  // what a pointer member of an argument struct points into
#define GPTOSS_CONSTANT constant constexpr
#define GPTOSS_HD
#define GPTOSS_U64 ulong
#else
#include <cmath>
#include <cstddef>
#include <cstdint>
#define GPTOSS_MEMORY
#define GPTOSS_U64 unsigned long long  // what CUDA and HIP add to atomically
#define GPTOSS_CONSTANT inline constexpr
#if defined(__CUDACC__) || defined(__HIPCC__)
#define GPTOSS_HD __host__ __device__
#else
#define GPTOSS_HD
#endif
#endif

namespace gptoss {

#if defined(__METAL_VERSION__)
inline float float_from_bits(uint32_t bits) { return as_type<float>(bits); }
inline uint32_t bits_from_float(float value) { return as_type<uint32_t>(value); }
#else
// The builtin behind std::bit_cast: of the standard library's functions, CUDA and HIP take different ones.
GPTOSS_HD inline float float_from_bits(uint32_t bits) { return __builtin_bit_cast(float, bits); }
GPTOSS_HD inline uint32_t bits_from_float(float value) { return __builtin_bit_cast(uint32_t, value); }
#endif

}  // namespace gptoss
