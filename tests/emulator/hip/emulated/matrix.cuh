// The emulator's twins of amdgcn/matrix.cuh: see matrix.cpp.
#pragma once

namespace gptoss::amdgcn {

using Site = ::emulator::Site;

void mfma_16x16x16_bf16(Float4& d, const Bf16x4& a, const Bf16x4& b, Site site = Site::current());
void mfma_32x32x8_bf16(Float16& d, const Bf16x4& a, const Bf16x4& b, Site site = Site::current());
void wmma_16x16x16_bf16(Float8& d, const Bf16x16& a, const Bf16x16& b, Site site = Site::current());
void wmma_16x16x16_bf16_halves(Float8& d, const Bf16x8& a, const Bf16x8& b, Site site = Site::current());
void mfma_16x16x128_fp4_fp8(Float4& d, const Fp4x32& a, int a_scale, const Fp8x32& b, int b_scale,
                            Site site = Site::current());

}  // namespace gptoss::amdgcn
