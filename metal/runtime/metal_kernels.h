// The kernels of gptoss.metal under the names that csrc/simt launches them by.
//
// Products have a second form, for the matrix units: a kernel of its own, with the same arguments over a grid of its
// own. The stream says which form is launched (metalStreamUseMatrixUnits).
#pragma once

#include "matrix_shape.h"
#include "sample_shared.h"
#include "simt/port.cuh"

namespace gptoss::simt {

template <class Args>
struct Kernel {
  static_assert(sizeof(Args) <= 4096, "arguments are bytes that an encoder copies, of which it takes 4 KiB");
  const char* name;
  const char* matrix = nullptr;  // its form for the matrix units
};

constexpr int kBlockThreads = kBlockWarps * kWarp;
constexpr size_t kThreadgroupMemory = 32768;  // of every Apple GPU
static_assert(kWeighShared <= kThreadgroupMemory && kMatrixShared <= kThreadgroupMemory &&
              sizeof(FinishShared) <= kThreadgroupMemory);
using U64 = unsigned long long;
constexpr size_t weigh_shared() { return kWeighShared; }

// Formats of a product's weights, and of the cache: what the host's code chooses between.
struct Bf16Row {};
struct Mxfp4Row {};

inline constexpr Kernel<EmbedArgs> embed{"embed"};
inline constexpr Kernel<NormArgs> rmsnorm{"rmsnorm"};
inline constexpr Kernel<RoundArgs> round_rows{"round_rows"};
inline constexpr Kernel<LinearArgs> linear{"linear", "linear_matrix"};
template <class Kv>
inline constexpr Kernel<AppendArgs> rotate_append{sizeof(Kv) == 4 ? "rotate_append_f32"
                                                                  : "rotate_append_bf16"};
template <class Kv>
inline constexpr Kernel<AttentionArgs> attn{sizeof(Kv) == 4 ? "attn_f32" : "attn_bf16"};
template <class Kv>
inline constexpr Kernel<AttentionArgs> attn_split{sizeof(Kv) == 4 ? "attn_split_f32" : "attn_split_bf16"};
inline constexpr Kernel<AttentionArgs> attn_merge{"attn_merge"};
inline constexpr Kernel<RouteArgs> choose{"choose"};
inline constexpr Kernel<GroupArgs> group_pairs{"group_pairs"};
inline constexpr Kernel<RouteFewArgs> route_few{"route_few"};
template <class Row>
inline constexpr Kernel<MoeArgs> moe_up{"moe_up_bf16", "moe_up_matrix_bf16"};
template <>
inline constexpr Kernel<MoeArgs> moe_up<Mxfp4Row>{"moe_up_mxfp4", "moe_up_matrix_mxfp4"};
template <class Row>
inline constexpr Kernel<MoeArgs> moe_down{"moe_down_bf16", "moe_down_matrix_bf16"};
template <>
inline constexpr Kernel<MoeArgs> moe_down<Mxfp4Row>{"moe_down_mxfp4", "moe_down_matrix_mxfp4"};
inline constexpr Kernel<CombineArgs> moe_combine{"moe_combine"};
inline constexpr Kernel<SwigluArgs> swiglu_rows{"swiglu_rows"};
inline constexpr Kernel<DequantizeArgs> dequantize_rows{"dequantize_rows"};
inline constexpr Kernel<ReadArgs> read{"read_ceiling"};
inline constexpr Kernel<MultiplyAddArgs> multiply_add{"multiply_add"};
inline constexpr Kernel<SampleArgs> sample_scan{"sample_scan"};
inline constexpr Kernel<SampleArgs> sample_weigh{"sample_weigh"};
inline constexpr Kernel<SampleArgs> sample_collect{"sample_collect"};
inline constexpr Kernel<SampleArgs> sample_finish{"sample_finish"};

// Tiles of 64 rows by 32 tokens; an expert's pairs come in the tiles of group_pairs, which blocks join.
inline dim3 matrix_grid(const LinearArgs& a, dim3 grid) {
  return dim3((a.rows + kMatrixRows - 1) / kMatrixRows,
              (grid.y * kTileTokens + kMatrixTokens - 1) / kMatrixTokens);
}
inline dim3 matrix_grid(const MoeArgs& a, dim3 grid) {
  return dim3((a.experts.rows + kMatrixRows - 1) / kMatrixRows, grid.y);
}
template <class Args>
dim3 matrix_grid(const Args&, dim3 grid) {
  return grid;  // of kernels without this form
}

template <class Args>
metalError_t launch(Kernel<Args> kernel, const LaunchConfig& config, const Args& args) {
  if (kernel.matrix && metalStreamUsesMatrixUnits(config.stream))
    return metalLaunch(kernel.matrix, matrix_grid(args, config.grid), dim3(kMatrixWarps * kWarp),
                       kMatrixShared, &args, sizeof args, config.stream);
  return metalLaunch(kernel.name, config.grid, config.block, config.dynamic_shared, &args, sizeof args,
                     config.stream);
}

}  // namespace gptoss::simt
