// Vector loads and the number formats of a warp's products.
#pragma once

#include "port.h"

namespace gptoss {

// kCount consecutive floats; the address is a multiple of 8 bytes (2) or 16 (4, 8).
template <int kCount>
inline void load_floats(device const float* from, thread float* to) {
  static_assert(kCount == 2 || kCount % 4 == 0, "one load of 8 bytes, or loads of 16");
  if (kCount == 2) {
    const float2 v = *reinterpret_cast<device const float2*>(from);
    to[0] = v.x, to[1] = v.y;
  } else {
    for (int i = 0; i < kCount; i += 4) {
      const float4 v = *reinterpret_cast<device const float4*>(from + i);
      to[i] = v.x, to[i + 1] = v.y, to[i + 2] = v.z, to[i + 3] = v.w;
    }
  }
}

// Elements of the KV cache.
inline float to_float(float value) { return value; }
inline float to_float(uint16_t bits) { return bf16_to_float(bits); }
inline void store(device float* to, float value) { *to = value; }
inline void store(device uint16_t* to, float value) { *to = float_to_bf16(value); }

// A row of bf16 weights, k even.
struct Bf16Row {
  static constant constexpr int kPerWord = 2;
  device const uint16_t* data;
  void unpack(int word, thread float* w) const {
    const uint32_t bits = reinterpret_cast<device const uint32_t*>(data)[word];
    w[0] = float_from_bits(bits << 16);
    w[1] = float_from_bits(bits & 0xffff0000u);
  }
};

}  // namespace gptoss
