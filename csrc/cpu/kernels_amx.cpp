// x86-64 with AVX-512 (F, BW, DQ, VL, VBMI, BF16) and AMX tiles with bf16: products on tiles, everything else as AVX-512.
#include "kernels.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#define GPTOSS_AVX512
#pragma GCC diagnostic ignored "-Wunused-function"  // products of the other instruction sets

namespace gptoss::cpu {
namespace amx {
namespace {  // or a member function that is not inlined could be the copy that the linker keeps
#include "kernels.inl"
#include "bf16_terms.inl"
#include "tiles.inl"
#include "column_attention.inl"
}  // namespace
}  // namespace amx

static const Kernels table = {.name = "amx",
                              .lanes = amx::kLanes,
                              .dot_bf16 = amx::tile_dot_bf16,
                              .dot_mxfp4 = amx::tile_dot_mxfp4,
                              .dot_int8 = amx::tile_dot_int8,
                              .dot_bf16_transposed = amx::tile_dot_bf16_transposed,
                              .attn_page = amx::attn_page,
                              .attn_merge = amx::attn_merge,
                              .attn_finish = amx::attn_finish,
                              .sum_squares = amx::sum_squares,
                              .group_floats_rounded = 16,
                              .group_floats = 48,
                              .pack = amx::terms_pack,
                              .swiglu_pack = amx::terms_swiglu_pack,
                              .read_sum = amx::read_sum,
                              .multiply_add = amx::multiply_add,
                              .panel_from = 2,
                              .most_tokens = kPanelTokens,
                              .panel = amx::tile_panel,
                              .integers = nullptr,
                              .matrix_multiply_add = amx::tile_multiply_add,
                              .attn_columns = amx::attn_columns,
                              .attn_split = amx::attn_split};
const Kernels* const kAmx = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAmx = nullptr;
}  // namespace gptoss::cpu
#endif
