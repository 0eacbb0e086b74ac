// ldmatrix and mma.sync (sm_80): what the tensor cores take from a warp. All 32 lanes execute them together.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/matrix.cuh>
#else
namespace gptoss::ptx {

// Four (two) 8 x 8 matrices of 16-bit elements. Lane 8 i + r has the address of row r of matrix i, 16 bytes
// at a multiple of 16; lane l receives in fragment[i] elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 of
// matrix i.
GPTOSS_PTX void ldmatrix_x4(uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(shared_address(row))
               : "memory");
}
GPTOSS_PTX void ldmatrix_x2(uint32_t (&fragment)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(fragment[0]), "=r"(fragment[1])
               : "r"(shared_address(row))
               : "memory");
}

// The same, each matrix transposed.
GPTOSS_PTX void ldmatrix_x4_trans(uint32_t (&fragment)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(shared_address(row))
               : "memory");
}
GPTOSS_PTX void ldmatrix_x2_trans(uint32_t (&fragment)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
               : "=r"(fragment[0]), "=r"(fragment[1])
               : "r"(shared_address(row))
               : "memory");
}

// Transposes an 8 x 8 matrix of 16-bit elements: lane l has elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4, before and
// after (sm_75).
GPTOSS_PTX uint32_t movmatrix_trans(uint32_t matrix) {
  uint32_t result;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(result) : "r"(matrix));
  return result;
}

// d[16, 8] += a[16, 16] b[8, 16]^T, bf16 operands, f32 sums. With g = lane / 4 and t = lane % 4: a[0..3] hold
// rows g, g + 8, g, g + 8 at columns 2t, 2t, 2t + 8, 2t + 8 (and the next one, in the high half); b[0..1]
// hold row g at columns 2t and 2t + 8; d[0..3] are (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
GPTOSS_PTX void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d[16, 8] += (2^(sa - 127) a[16, 32]) (2^(sb - 127) b[8, 32])^T, a of e2m1 and b of e4m3, both one to a byte, a scale of
// e8m0 for each row of a and of b (sm_120a). A byte of a has its code in bits 2 to 5, 0 in the others. With g = lane / 4
// and t = lane % 4: a[0..3] hold rows g, g + 8, g, g + 8 at columns 4t, 4t, 4t + 16, 4t + 16 (to + 3, in ascending
// bytes); b[0..1] hold row g at columns 4t and 4t + 16; d is as above. Scales are byte kByteA of lanes 4g (row g of a) and
// 4g + 1 (row g + 8), and byte kByteB of lane 4g (row g of b); other lanes' are not looked at.
template <int kByteA, int kByteB>
GPTOSS_PTX void mma_m16n8k32_e2m1_e4m3(float (&d)[4], const uint32_t (&a)[4], uint32_t a_scales, const uint32_t (&b)[2],
                                       uint32_t b_scales) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e2m1.e4m3.f32.ue8m0 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, {%10}, {%11, 0}, {%12}, {%13, 0};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(a_scales), "n"(kByteA), "r"(b_scales),
        "n"(kByteB));
}

}  // namespace gptoss::ptx
#endif
