// h (pairs, intermediate_size) = swiglu(gate_up_e t + bias); y (pairs, hidden_size) = down_e h + bias; then
// residual += sum over rank of weight y; experts e in MXFP4 or bf16, gate and up rows interleaved
//
// A warp per row (up: a gate and its up row) and tile of up to four pairs of one expert; tiles along grid.y.
// Bound by reading the experts, 3 * hidden * intermediate * 17 / 32 bytes each (13.2 MB of the 20b), once a tile.
// Every element is one warp's sum in a fixed order, ranks are added in order; grouping decides only who reads.
// Tested by test_metal.py. Reads as csrc/simt/moe.cuh. For many tokens: moe_up_matrix and its like of matrix.metal.
#include "block.h"
#include "combine.h"
#include "dot.h"
#include "mxfp4.h"
#include "operand.h"
#include "swiglu.h"

using namespace gptoss;

inline Mxfp4Row row_of(constant ExpertArgs& e, thread Mxfp4Row*, size_t row) {
  return {e.blocks + row * (e.k / 8), e.scales + row * (e.k / 32)};
}
inline Bf16Row row_of(constant ExpertArgs& e, thread Bf16Row*, size_t row) { return {e.dense + row * e.k}; }

// u = row `row` of the tile's expert times its activations, bias included.
template <class Row>
inline void expert_row(constant ExpertArgs& e, ExpertTile tile, int row, TileRows x, thread float* u,
                       uint lane) {
  const size_t at = static_cast<size_t>(tile.expert) * e.rows + row;
  dot(row_of(e, static_cast<thread Row*>(nullptr), at), e.k, x, tile.count, u, lane);
  for (int t = 0; t < kTileTokens; ++t) u[t] += e.bias[at];
}

template <class Row>
kernel void moe_up(constant MoeArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int neuron = global_warp(block, warp), neurons = a.experts.rows / 2;
  if (static_cast<int>(block.y) >= *a.tile_count || neuron >= neurons) return;
  const ExpertTile tile = a.tiles[block.y];
  TileRows x;
  for (int t = 0; t < kTileTokens; ++t)
    x.at[t] = a.x.values +
              static_cast<size_t>(a.pairs[tile.first + min(t, tile.count - 1)] / a.chosen) * a.experts.k;

  float gate[kTileTokens], up[kTileTokens];
  expert_row<Row>(a.experts, tile, 2 * neuron, x, gate, lane);
  expert_row<Row>(a.experts, tile, 2 * neuron + 1, x, up, lane);
  if (lane != 0) return;
  for (int t = 0; t < kTileTokens; ++t) {
    if (t >= tile.count) continue;
    store_operand(a.h, a.pairs[tile.first + t], neuron, swiglu(gate[t], up[t], a.limit, a.alpha));
  }
}

template <class Row>
kernel void moe_down(constant MoeArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int row = global_warp(block, warp);
  if (static_cast<int>(block.y) >= *a.tile_count || row >= a.experts.rows) return;
  const ExpertTile tile = a.tiles[block.y];
  TileRows x;
  for (int t = 0; t < kTileTokens; ++t)
    x.at[t] = a.x.values + static_cast<size_t>(a.pairs[tile.first + min(t, tile.count - 1)]) * a.experts.k;

  float y[kTileTokens];
  expert_row<Row>(a.experts, tile, row, x, y, lane);
  if (lane != 0) return;
  for (int t = 0; t < kTileTokens; ++t)
    if (t < tile.count) a.y[static_cast<size_t>(a.pairs[tile.first + t]) * a.experts.rows + row] = y[t];
}

typedef decltype(moe_up<Bf16Row>) MoeProduct;
template [[host_name("moe_up_bf16")]] kernel MoeProduct moe_up<Bf16Row>;
template [[host_name("moe_up_mxfp4")]] kernel MoeProduct moe_up<Mxfp4Row>;
template [[host_name("moe_down_bf16")]] kernel MoeProduct moe_down<Bf16Row>;
template [[host_name("moe_down_mxfp4")]] kernel MoeProduct moe_down<Mxfp4Row>;

// A thread per element.
kernel void moe_combine(constant CombineArgs& a [[buffer(0)]], GPTOSS_PLACE, GPTOSS_STRIDES) {
  const int token = block.x, i = element(block, thread_index, block_extent);
  if (token < a.live->tokens && i < a.size) add_ranks(a, token, i);
}

// swiglu by itself, for gptoss_native.ops: a warp per row.
kernel void swiglu_rows(constant SwigluArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int row = global_warp(block, warp);
  if (row >= a.rows) return;
  device const float* u = a.u + 2 * static_cast<size_t>(row) * a.size;
  for (int i = lane; i < a.size; i += kWarp) {
    const float h = swiglu(u[2 * i], u[2 * i + 1], a.limit, a.alpha);
    a.out[static_cast<size_t>(row) * a.size + i] = a.round ? round_to_bf16(h) : h;
  }
}

// The weights as the products see them, for gptoss_native.ops: a warp per row, a lane per word of eight codes.
kernel void dequantize_rows(constant DequantizeArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int row = global_warp(block, warp);
  if (row >= a.rows) return;
  const Mxfp4Row weights = {a.blocks + static_cast<size_t>(row) * (a.k / 8),
                            a.scales + static_cast<size_t>(row) * (a.k / 32)};
  for (int word = lane; word < a.k / 8; word += kWarp) {
    float w[8];
    weights.unpack(word, w);
    for (int i = 0; i < 8; ++i) a.out[static_cast<size_t>(row) * a.k + 8 * word + i] = w[i];
  }
}
