// Vector loads and the number formats of a warp's products.
#pragma once

#include "../numeric.h"
#include "port.cuh"

namespace gptoss::simt {

using gptoss::round_to_bf16;

// kCount consecutive floats; the address is a multiple of 8 bytes (2) or 16 (4, 8).
template <int kCount>
GPTOSS_DEVICE void load_floats(const float* from, float (&to)[kCount]) {
  static_assert(kCount == 2 || kCount % 4 == 0, "one load of 8 bytes, or loads of 16");
  if constexpr (kCount == 2) {
    const float2 v = *reinterpret_cast<const float2*>(from);
    to[0] = v.x, to[1] = v.y;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(from + i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  }
}

// Elements of the KV cache.
GPTOSS_DEVICE float to_float(float value) { return value; }
GPTOSS_DEVICE float to_float(uint16_t bits) { return bf16_to_float(bits); }
GPTOSS_DEVICE void store(float* to, float value) { *to = value; }
GPTOSS_DEVICE void store(uint16_t* to, float value) { *to = float_to_bf16(value); }

// A row of bf16 weights, k even.
struct Bf16Row {
  static constexpr int kPerWord = 2;
  const uint16_t* data;
  GPTOSS_DEVICE void unpack(int word, float (&w)[2]) const {
    const uint32_t bits = reinterpret_cast<const uint32_t*>(data)[word];
    w[0] = __uint_as_float(bits << 16);
    w[1] = __uint_as_float(bits & 0xffff0000u);
  }
};

}  // namespace gptoss::simt
