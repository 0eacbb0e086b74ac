// aarch64 with BF16 (Armv8.6, or an extension of 8.2): products by BFMMLA, everything else as NEON.
#include "kernels.h"

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>
#define GPTOSS_NEON
#pragma GCC diagnostic ignored "-Wunused-function"  // products of the other instruction sets

namespace gptoss::cpu {
namespace neon_bf16 {
#include "kernels.inl"
#include "bfmmla.inl"
}  // namespace neon_bf16

static const Kernels table = {.name = "neon_bf16",
                              .lanes = neon_bf16::kLanes,
                              .dot_bf16 = neon_bf16::bf_dot_bf16,
                              .dot_mxfp4 = neon_bf16::bf_dot_mxfp4,
                              .dot_int8 = neon_bf16::bf_dot_int8,
                              .dot_bf16_transposed = neon_bf16::bf_dot_bf16_transposed,
                              .attn_page = neon_bf16::attn_page,
                              .attn_merge = neon_bf16::attn_merge,
                              .attn_finish = neon_bf16::attn_finish,
                              .sum_squares = neon_bf16::sum_squares,
                              .group_floats_rounded = 16,
                              .group_floats = 48,
                              .pack = neon_bf16::bf_pack,
                              .swiglu_pack = neon_bf16::bf_swiglu_pack,
                              .read_sum = neon_bf16::read_sum,
                              .multiply_add = neon_bf16::multiply_add,
                              .panel_from = 1 << 30,
                              .most_tokens = 1 << 30,
                              .panel = nullptr,
                              .integers = nullptr,
                              .matrix_multiply_add = nullptr,
                              .attn_columns = nullptr,
                              .attn_split = nullptr};
const Kernels* const kNeonBf16 = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kNeonBf16 = nullptr;
}  // namespace gptoss::cpu
#endif
