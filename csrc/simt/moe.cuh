// h (pairs, intermediate_size) = swiglu(gate_up_e t + bias); y (pairs, hidden_size) = down_e h + bias; then
// residual += sum over rank of weight y; experts e in MXFP4 or bf16, gate and up rows interleaved
//
// A warp per row (up: a gate and its up row) and tile of up to four pairs of one expert; tiles along grid.y.
// Bound by reading the experts, 3 * hidden * intermediate * 17 / 32 bytes each (13.2 MB of the 20b), once a tile.
// Every element is one warp's sum in a fixed order, ranks are added in order; grouping decides only who reads.
// Tested by test_gpu_device.py (all codes, many experts, bf16 experts) and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "../swiglu.h"
#include "block.cuh"
#include "combine.cuh"
#include "mxfp4.cuh"
#include "dot.cuh"
#include "operand.cuh"

namespace gptoss::simt {

using gptoss::swiglu;

GPTOSS_DEVICE Mxfp4Row row_of(const ExpertArgs& e, Mxfp4Row*, size_t row) {
  return {e.blocks + row * (e.k / 8), e.scales + row * (e.k / 32)};
}
GPTOSS_DEVICE Bf16Row row_of(const ExpertArgs& e, Bf16Row*, size_t row) { return {e.dense + row * e.k}; }

// u = row `row` of the tile's expert times its activations, bias included.
template <class Row>
GPTOSS_DEVICE void expert_row(const ExpertArgs& e, const ExpertTile& tile, int row,
                              const float* const (&x)[kTileTokens], float (&u)[kTileTokens]) {
  const size_t at = static_cast<size_t>(tile.expert) * e.rows + row;
  dot(row_of(e, static_cast<Row*>(nullptr), at), e.k, x, tile.count, u);
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) u[t] += e.bias[at];
}

template <class Row>
__global__ void __launch_bounds__(kBlockThreads) moe_up(MoeArgs a) {
  wait_for_predecessors();
  const int neuron = global_warp(), neurons = a.experts.rows / 2;
  if (static_cast<int>(blockIdx.y) >= *a.tile_count || neuron >= neurons) return;
  const ExpertTile tile = a.tiles[blockIdx.y];
  const float* x[kTileTokens];
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t)
    x[t] = a.x.values + static_cast<size_t>(a.pairs[tile.first + min(t, tile.count - 1)] / a.chosen) * a.experts.k;

  float gate[kTileTokens], up[kTileTokens];
  expert_row<Row>(a.experts, tile, 2 * neuron, x, gate);
  expert_row<Row>(a.experts, tile, 2 * neuron + 1, x, up);
  if (lane() != 0) return;
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t) {
    if (t >= tile.count) continue;
    store_operand(a.h, a.pairs[tile.first + t], neuron, swiglu(gate[t], up[t], a.limit, a.alpha));
  }
}

template <class Row>
__global__ void __launch_bounds__(kBlockThreads) moe_down(MoeArgs a) {
  wait_for_predecessors();
  const int row = global_warp();
  if (static_cast<int>(blockIdx.y) >= *a.tile_count || row >= a.experts.rows) return;
  const ExpertTile tile = a.tiles[blockIdx.y];
  const float* x[kTileTokens];
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t)
    x[t] = a.x.values + static_cast<size_t>(a.pairs[tile.first + min(t, tile.count - 1)]) * a.experts.k;

  float y[kTileTokens];
  expert_row<Row>(a.experts, tile, row, x, y);
  if (lane() != 0) return;
#pragma unroll
  for (int t = 0; t < kTileTokens; ++t)
    if (t < tile.count) a.y[static_cast<size_t>(a.pairs[tile.first + t]) * a.experts.rows + row] = y[t];
}

// A thread per element.
__global__ void __launch_bounds__(kRowThreads) moe_combine(CombineArgs a) {
  wait_for_predecessors();
  const int token = static_cast<int>(blockIdx.x), i = element();
  if (token < a.live->tokens && i < a.size) add_ranks(a, token, i);
}

// swiglu by itself, for gptoss_native.ops: a warp per row.
__global__ void __launch_bounds__(kBlockThreads) swiglu_rows(SwigluArgs a) {
  wait_for_predecessors();
  const int row = global_warp();
  if (row >= a.rows) return;
  const float* u = a.u + 2 * static_cast<size_t>(row) * a.size;
  for (int i = lane(); i < a.size; i += kWarp) {
    const float h = swiglu(u[2 * i], u[2 * i + 1], a.limit, a.alpha);
    a.out[static_cast<size_t>(row) * a.size + i] = a.round ? round_to_bf16(h) : h;
  }
}

// The weights as the products see them, for gptoss_native.ops: a warp per row, a lane per word of eight codes.
__global__ void __launch_bounds__(kBlockThreads) dequantize_rows(DequantizeArgs a) {
  wait_for_predecessors();
  const int row = global_warp();
  if (row >= a.rows) return;
  const Mxfp4Row weights{a.blocks + static_cast<size_t>(row) * (a.k / 8), a.scales + static_cast<size_t>(row) * (a.k / 32)};
  for (int word = lane(); word < a.k / 8; word += kWarp) {
    float w[8];
    weights.unpack(word, w);
    for (int i = 0; i < 8; ++i) a.out[static_cast<size_t>(row) * a.k + 8 * word + i] = w[i];
  }
}

}  // namespace gptoss::simt
