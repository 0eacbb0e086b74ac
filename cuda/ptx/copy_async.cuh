// cp.async (sm_80): each thread copies its own 16 (or 4) bytes from global to shared memory and goes on.
//
// Copies belong to the group that the thread commits next. wait_group<N> returns when at most N of the
// thread's newest groups are still on their way; other threads know of the copy only after a barrier behind
// that.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/copy_async.cuh>
#else
namespace gptoss::ptx {

// Both addresses are multiples of 16.
GPTOSS_PTX void cp_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global)
               : "memory");
}

// Four bytes, at multiples of 4.
GPTOSS_PTX void cp_async_4(void* shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

// 16 zero bytes where not `valid`; then `global` is not read.
GPTOSS_PTX void cp_async_16_or_zero(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

GPTOSS_PTX void cp_async_commit_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kPending>
GPTOSS_PTX void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace gptoss::ptx
#endif
