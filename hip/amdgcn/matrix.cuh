// The matrix instructions of CDNA (MFMA, waves of 64) and of RDNA 3 and 4 (WMMA, waves of 32): one function
// each.
//
// A wave executes them together, whatever its execution mask says: they have no place in divergent code.
#pragma once

#include "simt/port.cuh"

#define GPTOSS_AMDGCN __device__ __forceinline__

namespace gptoss::amdgcn {

using Bf16x4 = short __attribute__((vector_size(8)));
using Bf16x8 = short __attribute__((vector_size(16)));
using Bf16x16 = short __attribute__((vector_size(32)));
using Fp4x32 = int __attribute__((vector_size(16)));
using Fp8x32 = int __attribute__((vector_size(32)));
using Float4 = float __attribute__((vector_size(16)));
using Float8 = float __attribute__((vector_size(32)));
using Float16 = float __attribute__((vector_size(64)));

}  // namespace gptoss::amdgcn

#if defined(GPTOSS_EMULATOR)
#include <emulated/matrix.cuh>
#else
namespace gptoss::amdgcn {

#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
// d[16, 16] += a[16, 16] b[16, 16]^T. Lane l holds row l % 16 of a and of b at columns 4 (l / 16) to 4 (l /
// 16) + 3; d[i] is row 4 (l / 16) + i, column l % 16.
GPTOSS_AMDGCN void mfma_16x16x16_bf16(Float4& d, const Bf16x4& a, const Bf16x4& b) {
  d = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(a, b, d, 0, 0, 0);
}

// d[32, 32] += a[32, 8] b[32, 8]^T. Lane l holds row l % 32 at columns 4 (l / 32) to 4 (l / 32) + 3; d[i] is
// row 8 (i / 4) + 4 (l / 32) + i % 4, column l % 32.
GPTOSS_AMDGCN void mfma_32x32x8_bf16(Float16& d, const Bf16x4& a, const Bf16x4& b) {
  d = __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(a, b, d, 0, 0, 0);
}
#endif

#if defined(__gfx950__)
// d[16, 16] += a[16, 128] b[16, 128]^T, a in MXFP4 (e2m1) and b in MXFP8 (e4m3), a scale of e8m0 for each 32
// columns. Lane l holds row l % 16 at columns 32 (l / 16) to + 31, in ascending order, and the scale of both
// operands for these; d[i] is row 4 (l / 16) + i, column l % 16. As the instruction set's document is read
// here: NO HARDWARE AND NO OTHER PROGRAM HAS CONFIRMED IT.
GPTOSS_AMDGCN void mfma_16x16x128_fp4_fp8(Float4& d, const Fp4x32& a, int a_scale, const Fp8x32& b,
                                          int b_scale) {
  constexpr int kFp4 = 4, kFp8 = 0;
  const Fp8x32 wide = {a[0], a[1], a[2], a[3], 0, 0, 0, 0};
  d = __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(wide, b, d, kFp4, kFp8, 0, a_scale, 0, b_scale);
}
#endif

#if defined(__GFX11__)
// d[16, 16] += a[16, 16] b[16, 16]^T. Lanes l and l + 16 hold the same: row l % 16 of a and of b, all 16
// columns; d[i] is row 2 i + l / 16, column l % 16.
GPTOSS_AMDGCN void wmma_16x16x16_bf16(Float8& d, const Bf16x16& a, const Bf16x16& b) {
  d = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(a, b, d);
}
#endif

#if defined(__gfx1200__) || defined(__gfx1201__)
// d[16, 16] += a[16, 16] b[16, 16]^T. Lane l holds row l % 16 of a and of b at columns 8 (l / 16) to 8 (l /
// 16) + 7; d[i] is row 8 (l / 16) + i, column l % 16.
GPTOSS_AMDGCN void wmma_16x16x16_bf16_halves(Float8& d, const Bf16x8& a, const Bf16x8& b) {
  d = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32_gfx12(a, b, d);
}
#endif

}  // namespace gptoss::amdgcn
#endif
