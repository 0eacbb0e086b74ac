// c[m, n] = sum over k of a[m, k] b[n, k]: a (M, K), b (N, K) bf16 as tensor maps, c (M, N) f32
//
// A block per 64 x 64 tile of c: a warpgroup of consumers and one producer warp, of which one lane starts tensor
// copies into a ring of three stages. full[s]: the stage's bytes have come; empty[s]: the consumers have read it.
// K in steps of 64, rows of 128 bytes with the 128-byte swizzle. K is summed in ascending order.
// Bound by the tensor cores for large M and N. M and N multiples of 64 (zeros beyond the end are harmless), K of 64.
// Tested by hopper_test.cpp.
#pragma once

#include "faults.h"
#include "ptx/bulk_copy.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/wgmma.cuh"

namespace kernels {

constexpr int kWgmmaTile = 64, kWgmmaDepth = 64, kWgmmaStages = 3, kConsumers = 128;
constexpr int kWgmmaThreads = kConsumers + 32;
constexpr int kWgmmaTileBytes = kWgmmaTile * kWgmmaDepth * 2;
constexpr size_t kWgmmaShared = size_t{2} * kWgmmaStages * kWgmmaTileBytes + 2 * kWgmmaStages * sizeof(uint64_t);

// Until the phase is complete.
GPTOSS_DEVICE void wait_for_phase(uint64_t* barrier, int phase) {
  while (!gptoss::ptx::mbarrier_try_wait_parity(barrier, phase & 1)) continue;
}

// Without sm_90a there is no wgmma: the kernel is then empty, and the host does not launch it.
#if defined(GPTOSS_EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GPTOSS_HAS_WGMMA 1
#endif

template <Fault kFault>
__global__ void __launch_bounds__(kWgmmaThreads)
    wgmma_gemm(const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b, float* c, int m_total,
               int n_total, int k_total) {
#if GPTOSS_HAS_WGMMA
  using namespace gptoss;
  (void)m_total;
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  const auto a_tile = [&](int stage) { return shared + stage * kWgmmaTileBytes; };
  const auto b_tile = [&](int stage) { return shared + (kWgmmaStages + stage) * kWgmmaTileBytes; };
  uint64_t* full = reinterpret_cast<uint64_t*>(shared + 2 * kWgmmaStages * kWgmmaTileBytes);
  uint64_t* empty = full + kWgmmaStages;
  const int thread = threadIdx.x, m0 = blockIdx.x * kWgmmaTile, n0 = blockIdx.y * kWgmmaTile;
  const int steps = k_total / kWgmmaDepth;

  if (thread == 0) {
    for (int stage = 0; stage < kWgmmaStages; ++stage) {
      ptx::mbarrier_init(&full[stage], 1);
      ptx::mbarrier_init(&empty[stage], kFault == Fault::kWrongArrivals ? kConsumers - 1 : kConsumers);
    }
    ptx::fence_mbarrier_init();
  }
  if constexpr (kFault != Fault::kMissingInitBarrier) __syncthreads();  // the barriers are made

  if (thread >= kConsumers) {
    if (thread != kConsumers) return;
    for (int step = 0; step < steps; ++step) {
      const int stage = step % kWgmmaStages, round = step / kWgmmaStages;
      // The phase before the first one counts as complete: the ring begins empty.
      wait_for_phase(&empty[stage], kFault == Fault::kWrongPhase ? round : round + 1);
      constexpr int kBytes = kFault == Fault::kWrongBytes ? kWgmmaTileBytes : 2 * kWgmmaTileBytes;
      ptx::mbarrier_arrive_expect_tx(&full[stage], kBytes);
      const int x = step * kWgmmaDepth + (kFault == Fault::kBoxOffByOne ? 1 : 0);
      ptx::tensor_load_2d(a_tile(stage), &a, x, m0, &full[stage]);
      ptx::tensor_load_2d(b_tile(stage), &b, step * kWgmmaDepth, n0, &full[stage]);
    }
    return;
  }

  float sums[kWgmmaTile / 2] = {};
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kWgmmaStages, round = step / kWgmmaStages;
    wait_for_phase(&full[stage], round);
    if constexpr (kFault != Fault::kMissingRegisterFence) ptx::wgmma_fence();
#pragma unroll
    for (int k = 0; k < kWgmmaDepth / 16; ++k) {
      uint64_t ka = ptx::wgmma_descriptor_128b(a_tile(stage) + k * 32);
      if constexpr (kFault == Fault::kWrongDescriptorStride) ka = (ka & ~(uint64_t{0x3fff} << 32)) | uint64_t{512 >> 4} << 32;
      if constexpr (kFault == Fault::kUnswizzledDescriptor) ka &= ~(uint64_t{3} << 62);
      ptx::wgmma_m64k16_bf16<kWgmmaTile>(sums, ka, ptx::wgmma_descriptor_128b(b_tile(stage) + k * 32));
    }
    ptx::wgmma_commit_group();
    if constexpr (kFault == Fault::kEarlyRelease) ptx::mbarrier_arrive(&empty[stage]);
    if constexpr (kFault != Fault::kMissingProductWait) ptx::wgmma_wait_group<0>();
    if constexpr (kFault != Fault::kEarlyRelease) ptx::mbarrier_arrive(&empty[stage]);
  }

  const int row = m0 + thread / 32 * 16 + thread % 32 / 4, column = n0 + thread % 4 * 2;
#pragma unroll
  for (int i = 0; i < kWgmmaTile / 2; ++i)
    c[static_cast<size_t>(row + i / 2 % 2 * 8) * n_total + column + i / 4 * 8 + i % 2] = sums[i];
#endif
}

// The same product with a written by the threads themselves (for dequantised weights): a bulk copy brings b, one
// stage, `a` goes through registers. One block, M = N = K = 64.
template <Fault kFault>
__global__ void __launch_bounds__(kConsumers)
    wgmma_from_registers(const uint16_t* a, const uint16_t* b, float* c) {
#if GPTOSS_HAS_WGMMA
  using namespace gptoss;
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* b_tile = shared;                           // swizzled, written by threads
  unsigned char* b_plain = shared + kWgmmaTileBytes;        // as it came
  uint64_t* full = reinterpret_cast<uint64_t*>(shared + 2 * kWgmmaTileBytes);
  const int thread = threadIdx.x, lane = thread % 32, g = lane / 4, t = lane % 4;
  if (thread == 0) {
    ptx::mbarrier_init(full, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(full, kWgmmaTileBytes);
    ptx::bulk_load(b_plain, b, kWgmmaTileBytes, full);
  }
  __syncthreads();  // the barrier is made
  if constexpr (kFault != Fault::kMissingProductWait) wait_for_phase(full, 0);
  for (int i = thread; i < kWgmmaTile * 8; i += kConsumers) {
    const int row = i / 8, unit = i % 8;
    const uint4 value = *reinterpret_cast<const uint4*>(b_plain + row * 128 + unit * 16);
    *reinterpret_cast<uint4*>(b_tile + row * 128 + (unit ^ row % 8) * 16) = value;
  }
  if constexpr (kFault != Fault::kMissingProxyFence) ptx::fence_proxy_async();  // wgmma reads what we wrote
  __syncthreads();  // everybody's units are there

  uint32_t fragments[kWgmmaDepth / 16][4];
#pragma unroll
  for (int k = 0; k < kWgmmaDepth / 16; ++k)
    for (int i = 0; i < 4; ++i) {
      const int row = thread / 32 * 16 + g + i % 2 * 8, column = k * 16 + 2 * t + i / 2 * 8;
      fragments[k][i] = *reinterpret_cast<const uint32_t*>(a + row * kWgmmaDepth + column);
    }
  float sums[kWgmmaTile / 2] = {};
  ptx::wgmma_fence();  // fragments and sums are in their registers
#pragma unroll
  for (int k = 0; k < kWgmmaDepth / 16; ++k)
    ptx::wgmma_m64k16_bf16<kWgmmaTile>(sums, fragments[k], ptx::wgmma_descriptor_128b(b_tile + k * 32));
  ptx::wgmma_commit_group();
  ptx::wgmma_wait_group<0>();
  for (int i = 0; i < kWgmmaTile / 2; ++i)
    c[(thread / 32 * 16 + g + i / 2 % 2 * 8) * kWgmmaTile + 2 * t + i / 4 * 8 + i % 2] = sums[i];
#endif
}

}  // namespace kernels
