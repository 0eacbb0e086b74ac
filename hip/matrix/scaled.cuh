// MXFP4 as gfx950 multiplies it, without decoding: codes and scales go to the matrix core as they are,
// activations as MXFP8.
//
// A bf16 number has eight significant bits and e4m3 has four, so two numbers of e4m3 add up to it: the
// nearest one, and what is missing. A scale for each 32 brings the largest of them below 448, the largest
// e4m3; the second number has a scale of 2^-4 of that. Exact for what is not smaller than 2^-14 of the
// largest, and to 2^-21 of the largest below.
//
// The layout of the instruction is read from a document and confirmed by nothing: compiled, emulated as it is
// read, and off unless GPTOSS_HIP_SCALED_MFMA=1 (see kernels.cpp). Tested by hip_product_test.cpp.
#pragma once

#include "weights.cuh"

namespace gptoss::hip {

struct ScaledMxfp4Units {
  static constexpr size_t kUnitBytes = kMxfp4UnitBytes;
  struct Weights {
    amdgcn::Fp4x32 codes;
    int scale;
  };
  struct Columns {
    amdgcn::Fp8x32 nearest, missing;
    int scale;
  };
  // Codes as the checkpoint has them: arrange_mxfp4<false>.
  struct Raw : Mxfp4Units::Raw {
    GPTOSS_DEVICE void unpack(Weights& to) const {
      to.codes = amdgcn::Fp4x32{static_cast<int>(codes.x), static_cast<int>(codes.y),
                                static_cast<int>(codes.z), static_cast<int>(codes.w)};
      to.scale = scale;
    }
  };

#if defined(__gfx950__) || (defined(GPTOSS_EMULATOR) && GPTOSS_HAS_MFMA)
  static GPTOSS_DEVICE void prepare(const UnitOfLane& x, Columns& to) {
    uint32_t largest = 0;  // bits of a magnitude: they are ordered as numbers are
#pragma unroll
    for (int i = 0; i < kUnitDepth / 2; ++i)
      largest = max(largest, max(x.pairs[i] << 16 & 0x7fff0000u, x.pairs[i] & 0x7fff0000u));
    // The largest becomes at least 128 and less than 256; 0 and what is near to it becomes 0.
    const int exponent = max(static_cast<int>(largest >> 23) - 7, 1);
    to.scale = exponent;
    const float down = __uint_as_float(static_cast<uint32_t>(254 - exponent) << 23);  // 2^(127 - exponent)
#pragma unroll
    for (int i = 0; i < kUnitDepth / 4; ++i) {
      float v[4];
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        v[2 * n] = __uint_as_float(x.pairs[2 * i + n] << 16) * down;
        v[2 * n + 1] = __uint_as_float(x.pairs[2 * i + n] & 0xffff0000u) * down;
      }
      const uint32_t word = amdgcn::pack_fp8(v[0], v[1], v[2], v[3]);
      to.nearest[i] = static_cast<int>(word);
      to.missing[i] = static_cast<int>(amdgcn::pack_fp8(
          16.0f * (v[0] - amdgcn::unpack_fp8<0>(word)), 16.0f * (v[1] - amdgcn::unpack_fp8<1>(word)),
          16.0f * (v[2] - amdgcn::unpack_fp8<2>(word)), 16.0f * (v[3] - amdgcn::unpack_fp8<3>(word))));
    }
  }
  static GPTOSS_DEVICE void multiply(const Weights& w, const Columns& x, amdgcn::Float4& sums) {
    amdgcn::mfma_16x16x128_fp4_fp8(sums, w.codes, w.scale, x.nearest, x.scale);
    amdgcn::mfma_16x16x128_fp4_fp8(sums, w.codes, w.scale, x.missing, max(x.scale - 4, 0));
  }
#elif GPTOSS_HAS_MATRIX_CORE
  // Never launched elsewhere.
  static GPTOSS_DEVICE void prepare(const UnitOfLane&, Columns&) {}
  static GPTOSS_DEVICE void multiply(const Weights&, const Columns&, MatrixCore::Sums&) {}
#endif
};

}  // namespace gptoss::hip
