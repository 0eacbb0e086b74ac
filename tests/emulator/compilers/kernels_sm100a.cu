// What only sm_100a has, as nvcc compiles it: see test_emulator.py.
#include "ptx/elect.cuh"
#include "ptx/tcgen05.cuh"
#include "ptx/tensor_memory.cuh"

namespace kernels {

__global__ void __launch_bounds__(128) scaled_product(float* y) {
  using namespace gptoss::ptx;
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  uint64_t* const done = reinterpret_cast<uint64_t*>(shared + 32768);
  uint32_t* const address = reinterpret_cast<uint32_t*>(done + 1);
  const int warp = threadIdx.x / 32;
  if (warp == 0) {
    tensor_alloc(address, 64);
    tensor_relinquish();
    if (elect_one()) {
      mbarrier_init(done, 1);
      fence_mbarrier_init();
    }
  }
  __syncthreads();
  const uint32_t memory = *address, scales = tensor_address(memory, 0, 32);
  if (warp == 0 && elect_one()) {
    tensor_copy_32x128b(scales, tcgen05_descriptor_plain(shared));
    tensor_copy_32x128b(scales + 4, tcgen05_descriptor_plain(shared + 512));
    tcgen05_mma_block_scaled(memory, tcgen05_descriptor_128b(shared + 1024), tcgen05_descriptor_128b(shared + 17408),
                             tcgen05_e2m1_e4m3<32>(3), scales, scales + 4, false);
    tcgen05_commit(done);
  }
  while (!mbarrier_try_wait_parity(done, 0)) continue;
  tcgen05_fence_after();
  float sums[32];
  tensor_load_32x32b_x32(sums, tensor_address(memory, 32 * warp, 0));
  tensor_wait_load();
  for (int i = 0; i < 32; ++i) y[i * 128 + threadIdx.x] = sums[i];
  tcgen05_fence_before();
  __syncthreads();
  tcgen05_fence_after();
  if (warp == 0) tensor_dealloc(memory, 64);
}

}  // namespace kernels
