// cp.async.bulk (sm_90): one thread starts a copy of contiguous bytes, which reports to an mbarrier.
#pragma once

#include "mbarrier.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/bulk_copy.cuh>
#else
namespace gptoss::ptx {

// Global to shared memory. Addresses and size are multiples of 16.
GPTOSS_PTX void bulk_load(void* shared, const void* global, int bytes, uint64_t* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

// Into the second-level cache only.
GPTOSS_PTX void bulk_prefetch_l2(const void* global, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(global), "r"(bytes));
}

}  // namespace gptoss::ptx
#endif
