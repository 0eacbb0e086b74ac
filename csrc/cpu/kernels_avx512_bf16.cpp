// x86-64 with AVX-512 (F, BW, DQ, VL, VBMI, BF16): products of what is rounded to bf16, and attention over it, by VDPBF16PS,
// everything else as AVX-512.
#include "kernels.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#define GPTOSS_AVX512
#pragma GCC diagnostic ignored "-Wunused-function"  // products of bf16 that add up to floats

namespace gptoss::cpu {
namespace avx512_bf16 {
namespace {  // or a member function that is not inlined could be the copy that the linker keeps
#include "kernels.inl"
#include "bf16_terms.inl"
#include "dpbf16.inl"
#include "column_attention.inl"
}  // namespace
}  // namespace avx512_bf16

static const Kernels table = {.name = "avx512_bf16",
                              .lanes = avx512_bf16::kLanes,
                              .dot_bf16 = avx512_bf16::dp_dot_bf16,
                              .dot_mxfp4 = avx512_bf16::dp_dot_mxfp4,
                              .dot_int8 = avx512_bf16::dp_dot_int8,
                              .dot_bf16_transposed = avx512_bf16::dp_dot_bf16_transposed,
                              .attn_page = avx512_bf16::attn_page,
                              .attn_merge = avx512_bf16::attn_merge,
                              .attn_finish = avx512_bf16::attn_finish,
                              .sum_squares = avx512_bf16::sum_squares,
                              .group_floats_rounded = 16,
                              .group_floats = kPackGroup,
                              .pack = avx512_bf16::dp_pack,
                              .swiglu_pack = avx512_bf16::dp_swiglu_pack,
                              .read_sum = avx512_bf16::read_sum,
                              .multiply_add = avx512_bf16::multiply_add,
                              .panel_from = avx512_bf16::kPanelFrom,
                              .most_tokens = 1 << 30,
                              .panel = avx512_bf16::dp_columns,
                              .integers = nullptr,
                              .matrix_multiply_add = avx512_bf16::dp_multiply_add,
                              .attn_columns = avx512_bf16::attn_columns,
                              .attn_split = avx512_bf16::attn_split};
const Kernels* const kAvx512Bf16 = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAvx512Bf16 = nullptr;
}  // namespace gptoss::cpu
#endif
