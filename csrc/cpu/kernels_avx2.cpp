// x86-64 with AVX2, FMA and F16C: in `fast`, MXFP4 and 8-bit weights meet integers by VPMADDWD; everything else is float32.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define GPTOSS_AVX2

namespace gptoss::cpu {
namespace avx2 {
#include "kernels.inl"
#include "integers.inl"
}  // namespace avx2

static const Kernels table = {.name = "avx2",
                              .lanes = avx2::kLanes,
                              .dot_bf16 = avx2::dot_bf16,
                              .dot_mxfp4 = avx2::integer_dot_mxfp4,
                              .dot_int8 = avx2::integer_dot_int8,
                              .dot_bf16_transposed = avx2::dot_bf16_transposed,
                              .attn_page = avx2::attn_page,
                              .attn_merge = avx2::attn_merge,
                              .attn_finish = avx2::attn_finish,
                              .sum_squares = avx2::sum_squares,
                              .group_floats_rounded = kPackGroup,
                              .group_floats = kPackGroup,
                              .pack = avx2::pack,
                              .swiglu_pack = avx2::swiglu_pack,
                              .read_sum = avx2::read_sum,
                              .multiply_add = avx2::multiply_add,
                              .panel_from = avx2::kPanelFrom,
                              .most_tokens = 1 << 30,
                              .panel = avx2::columns,
                              .integers = avx2::integers,
                              .matrix_multiply_add = avx2::integer_multiply_add,
                              .attn_columns = nullptr,
                              .attn_split = nullptr};
const Kernels* const kAvx2 = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAvx2 = nullptr;
}  // namespace gptoss::cpu
#endif
