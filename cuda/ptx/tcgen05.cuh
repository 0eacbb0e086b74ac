// tcgen05 (sm_100a): products that one thread starts, of tiles in shared memory, into tensor memory.
//
// Products are asynchronous, and so are copies to tensor memory. Of one thread a copy is done before the products behind it,
// and a product before those behind it that add to the same sums; nothing else is ordered. tcgen05_commit() reports to an
// mbarrier that all which this thread has started before is done. Who waits for that, or for another thread in any other
// way, says tcgen05_fence_after() before it touches the same tensor memory; who lets others go on, tcgen05_fence_before().
//
// The layouts below are those of the PTX ISA, 9.7.16 (PTX 9.0). No card has run them.
#pragma once

#include "mbarrier.cuh"

namespace gptoss::ptx {

// --- Tiles in shared memory, 64 bits: {0-13} the address, {16-29} and {32-45} strides, all without their last four bits;
// {46-48} 1; {61-63} the swizzle.

GPTOSS_PTX uint64_t tcgen05_descriptor(const void* tile, int stride, uint64_t swizzle) {
  constexpr uint64_t kLeading = uint64_t{1} << 16, kVersion = uint64_t{1} << 46;  // between columns of 16 bytes: not used here
  return ((shared_address(tile) & 0x3ffff) >> 4) | kLeading | static_cast<uint64_t>(stride >> 4) << 32 | kVersion |
         swizzle << 61;
}
// Rows of 128 bytes, swizzled as tensor copies with CU_TENSOR_MAP_SWIZZLE_128B leave them, from a multiple of 1024 bytes on. To
// step along a row, add to the descriptor: its unit is 16 bytes.
GPTOSS_PTX uint64_t tcgen05_descriptor_128b(const void* tile) {
  return tcgen05_descriptor(tile, 1024, 2);  // from eight rows to the next eight
}
// Rows of 16 bytes, one behind the other.
GPTOSS_PTX uint64_t tcgen05_descriptor_plain(const void* tile) { return tcgen05_descriptor(tile, 128, 0); }

// --- What is multiplied, 32 bits: {4-5} which byte of a word of scales of b is meant, {7-9} and {10-12} the formats of a and
// b, {17-22} columns / 8, {23} scales are e8m0, {27-28} rows / 128, {29-30} which byte of a.
template <int kColumns>
GPTOSS_PTX constexpr uint32_t tcgen05_e2m1_e4m3(int scale_byte) {
  static_assert(kColumns % 16 == 0 && kColumns >= 16 && kColumns <= 256);
  constexpr uint32_t kE4m3 = 0, kE2m1 = 5;
  return kE2m1 << 7 | kE4m3 << 10 | (kColumns / 8) << 17 | 1u << 23 | 1u << 27 |
         static_cast<uint32_t>(scale_byte) * (1u << 4 | 1u << 29);
}

}  // namespace gptoss::ptx

#if defined(GPTOSS_EMULATOR)
#include <emulated/tcgen05.cuh>
#else
namespace gptoss::ptx {

// d[128, N] = (2^(sa - 127) a[128, 32]) (2^(sb - 127) b[N, 32])^T, and d before it if `add`: row m is lane m, column n is
// column n of d. a and b by their descriptors: rows of 32 bytes; of e2m1 each 16 bytes hold 16 codes, in the first eight. A
// scale of row m is in column m / 32 of a's, in lane m % 32 of each quarter; so are those of b. By one thread.
GPTOSS_PTX void tcgen05_mma_block_scaled(uint32_t d, uint64_t a, uint64_t b, uint32_t what, uint32_t a_scales, uint32_t b_scales,
                                         bool add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %6, 0;\n"
      "tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale [%0], %1, %2, %3, [%4], [%5], p;\n"
      "}" ::"r"(d),
      "l"(a), "l"(b), "r"(what), "r"(a_scales), "r"(b_scales), "r"(static_cast<uint32_t>(add))
      : "memory");
}

// One arrival when all copies and products that this thread has started are done.
GPTOSS_PTX void tcgen05_commit(uint64_t* barrier) {
  asm volatile("tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(shared_address(barrier))
               : "memory");
}

// What this thread has done with tensor memory comes before what it says to others from here on.
GPTOSS_PTX void tcgen05_fence_before() { asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory"); }
// What this thread does with tensor memory from here on comes behind what it has heard of others.
GPTOSS_PTX void tcgen05_fence_after() { asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory"); }

}  // namespace gptoss::ptx
#endif
