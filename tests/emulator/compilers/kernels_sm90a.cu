// The emulator's test kernels for sm_90a, and wgmma in all sizes, as nvcc compiles them: see
// test_emulator.py.
#include "kernels/dependent.cuh"
#include "kernels/wgmma_gemm_sm90a.cuh"
#include "ptx/bits.cuh"
#include "ptx/memory.cuh"
#include "ptx/registers.cuh"
#include "tensor_map.h"

namespace kernels {

template __global__ void wgmma_gemm<Fault::kNone>(const __grid_constant__ CUtensorMap,
                                                  const __grid_constant__ CUtensorMap, float*, int, int, int);
template __global__ void wgmma_from_registers<Fault::kNone>(const uint16_t*, const uint16_t*, float*);
template __global__ void first_of_two<Fault::kNone>(const float*, float*);
template __global__ void second_of_two<Fault::kNone>(float*, const float*, float*);

template <int kN>
__global__ void one_product(float* c) {
  using namespace gptoss::ptx;
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  float sums[kN / 2];
  const uint32_t fragment[4] = {threadIdx.x, 1, 2, 3};
  wgmma_fence();
  wgmma_m64k16_bf16_first<kN>(sums, fragment, wgmma_descriptor_128b(shared));
  wgmma_m64k16_bf16<kN>(sums, wgmma_descriptor_128b(shared), wgmma_descriptor_128b(shared + 8192));
  wgmma_m64k16_bf16<kN>(sums, fragment, wgmma_descriptor_128b(shared + 8192));
  wgmma_commit_group();
  wgmma_wait_group<0>();
  for (int i = 0; i < kN / 2; ++i) c[i * 128 + threadIdx.x] = sums[i];
}
__global__ void product_with_rows_of_k(float* c) {
  using namespace gptoss::ptx;
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  float sums[32];
  const uint32_t fragment[4] = {cvt_bf16x2(c[0], c[1]), cvt_bf16x2(ex2(c[2]), c[3]), 2, 3};
  wgmma_fence();
  wgmma_m64k16_bf16_rows_first<64>(sums, fragment, wgmma_descriptor_128b(shared));
  wgmma_m64k16_bf16_rows<64>(sums, fragment, wgmma_descriptor_128b(shared + 2048));
  wgmma_commit_group();
  wgmma_wait_group<0>();
  for (int i = 0; i < 32; ++i) c[i * 128 + threadIdx.x] = sums[i];
}
template __global__ void one_product<8>(float*);
template __global__ void one_product<16>(float*);
template __global__ void one_product<32>(float*);
template __global__ void one_product<64>(float*);
template __global__ void one_product<128>(float*);
template __global__ void one_product<256>(float*);

__global__ void __launch_bounds__(256, 1) two_roles(float* c) {
  using namespace gptoss::ptx;
  if (threadIdx.x < 128) {
    take_registers<232>();
    c[threadIdx.x] = 1;
  } else {
    give_registers<24>();
    c[threadIdx.x] = 2;
  }
}

__global__ void the_rest(uint32_t* x) {
  using namespace gptoss::ptx;
  bulk_prefetch_l2(x, 1024);
  store_release(
      x, prmt(load_acquire(x), lop3<0xca>(x[1], x[2], x[3]), 0x5410) + load_streaming((const uint4*)x).w);
}

bool describe(CUtensorMap* map, const void* data) {
  return gptoss::cuda::make_tensor_map(map, data, 64, 64, 64, 64, 64);
}

}  // namespace kernels
