// The emulator's twins of ptx/wgmma.cuh: see wgmma.cpp.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

void wgmma_fence(Site site = Site::current());
void wgmma_commit_group(Site site = Site::current());
void wgmma_wait_group(int pending, Site site);
template <int kPending>
void wgmma_wait_group(Site site = Site::current()) {
  wgmma_wait_group(kPending, site);
}

// `rows`: b's rows in shared memory are those of k.
void wgmma_m64k16_bf16(int n, float* d, bool first, const uint32_t* a_registers, uint64_t a, uint64_t b, bool rows, Site site);
template <int kN>
void wgmma_m64k16_bf16(float (&d)[kN / 2], uint64_t a, uint64_t b, Site site = Site::current()) {
  wgmma_m64k16_bf16(kN, d, false, nullptr, a, b, false, site);
}
template <int kN>
void wgmma_m64k16_bf16(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, Site site = Site::current()) {
  wgmma_m64k16_bf16(kN, d, false, a, 0, b, false, site);
}
template <int kN>
void wgmma_m64k16_bf16_first(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, Site site = Site::current()) {
  wgmma_m64k16_bf16(kN, d, true, a, 0, b, false, site);
}
template <int kN>
void wgmma_m64k16_bf16_rows(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, Site site = Site::current()) {
  wgmma_m64k16_bf16(kN, d, false, a, 0, b, true, site);
}
template <int kN>
void wgmma_m64k16_bf16_rows_first(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, Site site = Site::current()) {
  wgmma_m64k16_bf16(kN, d, true, a, 0, b, true, site);
}

}  // namespace gptoss::ptx
