// wgmma (sm_90a): the product of a warpgroup, four warps that execute each of these together.
//
// It is asynchronous: the accumulators, and A where it comes from registers, must be left alone, and the
// tiles in shared memory must not be overwritten, until wgmma_wait_group says that the product's group is
// complete.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

// A tile of bf16 in shared memory, rows of 64 elements (128 bytes) swizzled as tensor copies with
// CU_TENSOR_MAP_SWIZZLE_128B leave them, the tile at a multiple of 1024 bytes. To step by 16 along k, advance
// the pointer by 32 bytes; where a row is one of k, by 16 rows.
GPTOSS_PTX uint64_t wgmma_descriptor_128b(const void* tile) {
  constexpr uint64_t kSwizzle128B = uint64_t{1} << 62;
  constexpr uint64_t kLeading = uint64_t{1} << 16;         // not used with this swizzle
  constexpr uint64_t kStride = uint64_t{1024 >> 4} << 32;  // from eight rows to the next eight
  return ((shared_address(tile) & 0x3ffff) >> 4) | kLeading | kStride | kSwizzle128B;
}

}  // namespace gptoss::ptx

#if defined(GPTOSS_EMULATOR)
#include <emulated/wgmma.cuh>
#else
namespace gptoss::ptx {

// Orders earlier accesses to the registers that the next products use.
GPTOSS_PTX void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
GPTOSS_PTX void wgmma_commit_group() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Returns when at most kPending of the newest groups are not complete.
template <int kPending>
GPTOSS_PTX void wgmma_wait_group() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// wgmma_m64k16_bf16<N>: d[64, N] += a[64, 16] b[N, 16]^T, both tiles given by descriptors (or a by registers,
// four for each lane as in mma_m16n8k16_bf16). Warp w holds rows 16 w to 16 w + 15; with g = lane / 4 and t =
// lane % 4, d[4 j + i] is row g + 8 (i / 2), column 8 j + 2 t + i % 2. wgmma_m64k16_bf16_first<N>: d = a b^T.
// wgmma_m64k16_bf16_rows<N>, .._rows_first<N>: the same of b[16, N], whose rows of the tile are those of k; N is 64, the
// elements of a row.
template <int kN>
struct Wgmma;

// The accumulators' registers: "%0, %1, ..." and the constraints that go with them.
#define GPTOSS_WGMMA_D8 "%0, %1, %2, %3"
#define GPTOSS_WGMMA_D16 GPTOSS_WGMMA_D8 ", %4, %5, %6, %7"
#define GPTOSS_WGMMA_D32 GPTOSS_WGMMA_D16 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define GPTOSS_WGMMA_D64 \
  GPTOSS_WGMMA_D32 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define GPTOSS_WGMMA_D128                                                                  \
  GPTOSS_WGMMA_D64                                                                         \
      ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define GPTOSS_WGMMA_D256                                                                            \
  GPTOSS_WGMMA_D128                                                                                  \
      ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "           \
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define GPTOSS_WGMMA_R4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define GPTOSS_WGMMA_R8(i) GPTOSS_WGMMA_R4(i), GPTOSS_WGMMA_R4(i + 4)
#define GPTOSS_WGMMA_R16(i) GPTOSS_WGMMA_R8(i), GPTOSS_WGMMA_R8(i + 8)
#define GPTOSS_WGMMA_R32(i) GPTOSS_WGMMA_R16(i), GPTOSS_WGMMA_R16(i + 16)
#define GPTOSS_WGMMA_R64(i) GPTOSS_WGMMA_R32(i), GPTOSS_WGMMA_R32(i + 32)
#define GPTOSS_WGMMA_R128(i) GPTOSS_WGMMA_R64(i), GPTOSS_WGMMA_R64(i + 64)

// The operands behind the accumulators have the numbers that follow theirs. kRows: b is transposed on its way (as the ISA
// counts, for which rows of n are the usual).
#define GPTOSS_WGMMA(n, registers, p0, p1, p2, p3, p4, p5)                                        \
  template <>                                                                                     \
  struct Wgmma<n> {                                                                               \
    template <int kRows>                                                                          \
    GPTOSS_PTX static void first(float (&d)[registers], const uint32_t (&a)[4], uint64_t b) {     \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" GPTOSS_WGMMA_D##n \
                   "}, {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}, %" #p4 ", 0, 1, 1, %" #p5 ";"    \
                   : GPTOSS_WGMMA_R##registers(0)                                                 \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kRows)               \
                   : "memory");                                                                   \
    }                                                                                             \
    GPTOSS_PTX static void product(float (&d)[registers], uint64_t a, uint64_t b) {               \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" GPTOSS_WGMMA_D##n \
                   "}, %" #p0 ", %" #p1 ", 1, 1, 1, 0, 0;"                                        \
                   : GPTOSS_WGMMA_R##registers(0)                                                 \
                   : "l"(a), "l"(b)                                                               \
                   : "memory");                                                                   \
    }                                                                                             \
    template <int kRows>                                                                          \
    GPTOSS_PTX static void product(float (&d)[registers], const uint32_t (&a)[4], uint64_t b) {   \
      asm volatile("wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" GPTOSS_WGMMA_D##n \
                   "}, {%" #p0 ", %" #p1 ", %" #p2 ", %" #p3 "}, %" #p4 ", 1, 1, 1, %" #p5 ";"    \
                   : GPTOSS_WGMMA_R##registers(0)                                                 \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kRows)               \
                   : "memory");                                                                   \
    }                                                                                             \
  };
GPTOSS_WGMMA(8, 4, 4, 5, 6, 7, 8, 9)
GPTOSS_WGMMA(16, 8, 8, 9, 10, 11, 12, 13)
GPTOSS_WGMMA(32, 16, 16, 17, 18, 19, 20, 21)
GPTOSS_WGMMA(64, 32, 32, 33, 34, 35, 36, 37)
GPTOSS_WGMMA(128, 64, 64, 65, 66, 67, 68, 69)
GPTOSS_WGMMA(256, 128, 128, 129, 130, 131, 132, 133)
#undef GPTOSS_WGMMA

template <int kN>
GPTOSS_PTX void wgmma_m64k16_bf16(float (&d)[kN / 2], uint64_t a, uint64_t b) {
  Wgmma<kN>::product(d, a, b);
}
template <int kN>
GPTOSS_PTX void wgmma_m64k16_bf16(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
  Wgmma<kN>::template product<0>(d, a, b);
}
template <int kN>
GPTOSS_PTX void wgmma_m64k16_bf16_first(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
  Wgmma<kN>::template first<0>(d, a, b);
}
template <int kN>
GPTOSS_PTX void wgmma_m64k16_bf16_rows(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
  static_assert(kN == 64, "a row of the tile has 64 elements");
  Wgmma<kN>::template product<1>(d, a, b);
}
template <int kN>
GPTOSS_PTX void wgmma_m64k16_bf16_rows_first(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b) {
  static_assert(kN == 64, "a row of the tile has 64 elements");
  Wgmma<kN>::template first<1>(d, a, b);
}

}  // namespace gptoss::ptx
#endif
