// What only sm_120a has, as nvcc compiles it: see test_emulator.py.
#include "ptx/bits.cuh"
#include "ptx/matrix.cuh"

namespace kernels {

template <int kByteA, int kByteB>
__global__ void scaled_product(const uint32_t* x, float* y) {
  const uint32_t a[4] = {x[0], x[1], x[2], x[3]};
  const uint32_t b[2] = {gptoss::ptx::cvt_e4m3x2(y[4], y[5]), x[5]};
  float d[4] = {y[0], y[1], y[2], y[3]};
  gptoss::ptx::mma_m16n8k32_e2m1_e4m3<kByteA, kByteB>(d, a, x[6], b, x[7]);
  for (int i = 0; i < 4; ++i) y[i] = d[i];
}
template __global__ void scaled_product<0, 0>(const uint32_t*, float*);
template __global__ void scaled_product<3, 2>(const uint32_t*, float*);

}  // namespace kernels
