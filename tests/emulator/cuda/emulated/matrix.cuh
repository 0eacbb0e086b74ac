// The emulator's twins of ptx/matrix.cuh: see matrix.cpp.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

void ldmatrix_x4(uint32_t (&fragment)[4], const void* row, Site site = Site::current());
void ldmatrix_x2(uint32_t (&fragment)[2], const void* row, Site site = Site::current());
void ldmatrix_x4_trans(uint32_t (&fragment)[4], const void* row, Site site = Site::current());
void ldmatrix_x2_trans(uint32_t (&fragment)[2], const void* row, Site site = Site::current());
uint32_t movmatrix_trans(uint32_t matrix, Site site = Site::current());
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                       Site site = Site::current());
void mma_m16n8k32_e2m1_e4m3(int byte_a, int byte_b, float (&d)[4], const uint32_t (&a)[4], uint32_t a_scales,
                            const uint32_t (&b)[2], uint32_t b_scales, Site site);
template <int kByteA, int kByteB>
void mma_m16n8k32_e2m1_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t a_scales, const uint32_t (&b)[2],
                            uint32_t b_scales, Site site = Site::current()) {
  mma_m16n8k32_e2m1_e4m3(kByteA, kByteB, d, a, a_scales, b, b_scales, site);
}

}  // namespace gptoss::ptx
