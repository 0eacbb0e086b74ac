// mbarrier (sm_90): a barrier in shared memory that threads arrive at and asynchronous copies report their bytes to.
//
// A phase completes when all expected arrivals have come and no announced byte is missing; then the next one begins.
// wait_parity(p) returns when the newest phase of parity p is complete; the first phase has parity 0.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/mbarrier.cuh>
#else
namespace gptoss::ptx {

// By one thread; the others see it after fence_mbarrier_init() and a barrier of the block.
GPTOSS_PTX void mbarrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// Makes the initialisation known to the async proxy.
GPTOSS_PTX void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Orders what this thread wrote to shared memory before later reads of it by wgmma and bulk copies.
GPTOSS_PTX void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

GPTOSS_PTX void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// One arrival, and the announcement of `bytes` that copies will bring in this phase.
GPTOSS_PTX void mbarrier_arrive_expect_tx(uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

// Waits a while. True when the newest phase of this parity is complete.
GPTOSS_PTX bool mbarrier_try_wait_parity(uint64_t* barrier, uint32_t parity) {
  uint32_t complete;
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n"
      "}"
      : "=r"(complete)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return complete != 0;
}

}  // namespace gptoss::ptx
#endif
