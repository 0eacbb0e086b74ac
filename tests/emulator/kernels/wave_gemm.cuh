// c[m, n] = sum over k of a[m, k] b[n, k]: a (M, K), b (N, K) bf16, c (M, N) f32, by the matrix cores of AMD
//
// A wave per tile of c: 16 x 16 or 32 x 32 with MFMA (waves of 64), 16 x 16 with WMMA (waves of 32). Operands come
// straight from memory: these kernels are about the layouts. K is summed in ascending order. M and N multiples of the
// tile, K of 16. Tested by wave_test.cpp.
#pragma once

#include "amdgcn/matrix.cuh"
#include "faults.h"

namespace kernels {

#if defined(GPTOSS_EMULATOR) || defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
template <Fault kFault>
__global__ void __launch_bounds__(64) mfma_gemm_16(const uint16_t* a, const uint16_t* b, float* c, int n_total, int k_total) {
  using namespace gptoss::amdgcn;
  const int lane = threadIdx.x, row = lane % 16, block = kFault == Fault::kWrongBlock ? lane % 4 : lane / 16;
  const int m0 = blockIdx.x * 16, n0 = blockIdx.y * 16;
  Float4 sums = {0, 0, 0, 0};
  for (int k = 0; k < k_total; k += 16) {
    const Bf16x4 a4 = *reinterpret_cast<const Bf16x4*>(a + static_cast<size_t>(m0 + row) * k_total + k + block * 4);
    const Bf16x4 b4 = *reinterpret_cast<const Bf16x4*>(b + static_cast<size_t>(n0 + row) * k_total + k + lane / 16 * 4);
    if constexpr (kFault == Fault::kHalfWaveMfma) {
      if (lane < 32) mfma_16x16x16_bf16(sums, a4, b4);  // right for a wave of 32, which would be all
    } else {
      mfma_16x16x16_bf16(sums, a4, b4);
    }
  }
  for (int i = 0; i < 4; ++i) {
    const int down = lane / 16 * 4 + i;
    if constexpr (kFault == Fault::kTransposed)
      c[static_cast<size_t>(m0 + row) * n_total + n0 + down] = sums[i];
    else
      c[static_cast<size_t>(m0 + down) * n_total + n0 + row] = sums[i];
  }
}

template <Fault kFault>
__global__ void __launch_bounds__(64) mfma_gemm_32(const uint16_t* a, const uint16_t* b, float* c, int n_total, int k_total) {
  using namespace gptoss::amdgcn;
  const int lane = threadIdx.x, row = lane % 32, block = lane / 32;
  const int m0 = blockIdx.x * 32, n0 = blockIdx.y * 32;
  Float16 sums = {0};
  for (int k = 0; k < k_total; k += 8) {
    const Bf16x4 a4 = *reinterpret_cast<const Bf16x4*>(a + static_cast<size_t>(m0 + row) * k_total + k + block * 4);
    const Bf16x4 b4 = *reinterpret_cast<const Bf16x4*>(b + static_cast<size_t>(n0 + row) * k_total + k + block * 4);
    mfma_32x32x8_bf16(sums, a4, b4);
  }
  for (int i = 0; i < 16; ++i) {
    const int down = kFault == Fault::kWrongFragmentIndex ? block * 16 + i : i / 4 * 8 + block * 4 + i % 4;
    c[static_cast<size_t>(m0 + down) * n_total + n0 + row] = sums[i];
  }
}
#endif

#if defined(GPTOSS_EMULATOR) || defined(__GFX11__)
template <Fault kFault>
__global__ void __launch_bounds__(32) wmma_gemm(const uint16_t* a, const uint16_t* b, float* c, int n_total, int k_total) {
  using namespace gptoss::amdgcn;
  const int lane = threadIdx.x, row = kFault == Fault::kWrongFragmentRow ? lane / 2 : lane % 16;
  const int m0 = blockIdx.x * 16, n0 = blockIdx.y * 16;
  Float8 sums = {0};
  for (int k = 0; k < k_total; k += 16) {
    const Bf16x16 a16 = *reinterpret_cast<const Bf16x16*>(a + static_cast<size_t>(m0 + row) * k_total + k);
    const Bf16x16 b16 = *reinterpret_cast<const Bf16x16*>(b + static_cast<size_t>(n0 + row) * k_total + k);
    wmma_16x16x16_bf16(sums, a16, b16);
  }
  for (int i = 0; i < 8; ++i) {
    const int down = kFault == Fault::kWrongFragmentIndex ? lane / 16 * 8 + i : 2 * i + lane / 16;
    c[static_cast<size_t>(m0 + down) * n_total + n0 + lane % 16] = sums[i];
  }
}
#endif

}  // namespace kernels
