// Weights as wgmma takes them: from the order of mma/weights.cuh, which is that of a warp's registers, straight into them.
//
// Tested by wgmma_product_test.cpp.
#pragma once

#include "mma/weights.cuh"
#include "simt/mxfp4.cuh"

namespace gptoss::cuda::wgmma {

// The two steps of 32 columns of 16 rows, and what their products are multiplied by, of rows g and g + 8.
struct Fragments {
  uint32_t a[2][4];
  float scale[2];
};

struct Bf16Units {
  static constexpr int kUnitBytes = cuda::kBf16UnitBytes;
  static constexpr int kStages = 4;

  static GPTOSS_DEVICE void read(const uint8_t* unit, int half, Fragments& f) {
    const uint4* fragments = reinterpret_cast<const uint4*>(unit) + simt::lane() + 64 * half;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      const uint4 v = fragments[32 * step];
      f.a[step][0] = v.x, f.a[step][1] = v.y, f.a[step][2] = v.z, f.a[step][3] = v.w;
      f.scale[step] = 1.0f;
    }
  }
};

struct Mxfp4Units {
  static constexpr int kUnitBytes = cuda::kMxfp4UnitBytes;
  static constexpr int kStages = 6;

  static GPTOSS_DEVICE void read(const uint8_t* unit, int half, Fragments& f) {
    const uint2 words = reinterpret_cast<const uint2*>(unit)[2 * simt::lane() + half];
    const uint32_t scales = reinterpret_cast<const uint16_t*>(unit + cuda::kMxfp4CodeBytes)[simt::lane() / 4 * 2 + half];
    cuda::unpack_fragments(words.x, words.y, f.a[0], f.a[1]);
    f.scale[0] = simt::e8m0_to_float(scales & 0xff);
    f.scale[1] = simt::e8m0_to_float(scales >> 8);
  }
};

}  // namespace gptoss::cuda::wgmma
