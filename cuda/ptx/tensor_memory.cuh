// Tensor memory (sm_100a): 128 lanes of 512 columns of 32 bits for each multiprocessor, where products of tcgen05 have their
// sums and scales. An address is a lane in the upper half of a word and a column in the lower one.
//
// Copies and loads are asynchronous: tcgen05.cuh says how they are waited for, and how they are ordered between threads.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

constexpr int kTensorLanes = 128, kTensorColumns = 512;

GPTOSS_PTX uint32_t tensor_address(uint32_t base, int lane, int column) {
  return base + (static_cast<uint32_t>(lane) << 16) + static_cast<uint32_t>(column);
}

}  // namespace gptoss::ptx

#if defined(GPTOSS_EMULATOR)
#include <emulated/tensor_memory.cuh>
#else
namespace gptoss::ptx {

// Takes so many columns, a power of two from 32 on, and writes the address to shared memory. By one warp, whose lanes execute
// it together. Waits while another block of the multiprocessor has them.
GPTOSS_PTX void tensor_alloc(uint32_t* shared, int columns) {
  asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], %1;" ::"r"(shared_address(shared)), "r"(columns)
               : "memory");
}
// The block takes no more; another one may.
GPTOSS_PTX void tensor_relinquish() { asm volatile("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;"); }
// Before the block ends, when nothing uses them any more. By one warp.
GPTOSS_PTX void tensor_dealloc(uint32_t address, int columns) {
  asm volatile("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, %1;" ::"r"(address), "r"(columns) : "memory");
}

// 32 rows of 16 bytes of shared memory (see tcgen05_descriptor_plain) to four columns: row r to lanes r, 32 + r, 64 + r and
// 96 + r, so that each warp's quarter has them all. By one thread.
GPTOSS_PTX void tensor_copy_32x128b(uint32_t address, uint64_t descriptor) {
  asm volatile("tcgen05.cp.cta_group::1.32x128b.warpx4 [%0], %1;" ::"r"(address), "l"(descriptor) : "memory");
}

// Lane l of a warp receives columns 0 to 31 from `address` on of lane l of the warp's quarter, which is the one of its number
// in its warpgroup: `address` names the quarter's first lane. The registers hold them after tensor_wait_load().
GPTOSS_PTX void tensor_load_32x32b_x32(float (&values)[32], uint32_t address) {
  asm volatile(
      "tcgen05.ld.sync.aligned.32x32b.x32.b32 {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
      "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, [%32];"
      : "=f"(values[0]), "=f"(values[1]), "=f"(values[2]), "=f"(values[3]), "=f"(values[4]), "=f"(values[5]), "=f"(values[6]),
        "=f"(values[7]), "=f"(values[8]), "=f"(values[9]), "=f"(values[10]), "=f"(values[11]), "=f"(values[12]),
        "=f"(values[13]), "=f"(values[14]), "=f"(values[15]), "=f"(values[16]), "=f"(values[17]), "=f"(values[18]),
        "=f"(values[19]), "=f"(values[20]), "=f"(values[21]), "=f"(values[22]), "=f"(values[23]), "=f"(values[24]),
        "=f"(values[25]), "=f"(values[26]), "=f"(values[27]), "=f"(values[28]), "=f"(values[29]), "=f"(values[30]),
        "=f"(values[31])
      : "r"(address)
      : "memory");
}
// All loads of this thread are done. Its lanes execute it together.
GPTOSS_PTX void tensor_wait_load() { asm volatile("tcgen05.wait::ld.sync.aligned;" ::: "memory"); }

}  // namespace gptoss::ptx
#endif
