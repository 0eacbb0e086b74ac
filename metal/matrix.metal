// linear and the experts' products for many tokens, on the SIMD groups' matrix units
//
// A block computes 32 tokens (or pairs of one expert) by 64 rows; its four warps 16 by 32 each, as products of 8 by 8.
// Step by step of k, threads bring 32 by 32 activations and 64 by 32 weights to threadgroup memory, unpacked once.
// Bound by the multiply-adds: 2 * tokens * rows * k; weights are read once for every 32 tokens.
// A sum runs over k in ascending order, in float32; its grouping is the hardware's, so its last bits differ from
// those of the kernels for few tokens. Operands are float32, in `fast` such as bf16 has, too.
// Tested by test_metal.py, alone and in a prefill.
#include <metal_simdgroup_matrix>

#include "matrix_shape.h"
#include "mxfp4.h"
#include "operand.h"
#include "swiglu.h"

using namespace gptoss;

constant constexpr int kMatrixThreads = kMatrixWarps * kWarp;
constant constexpr int kWarpTokens = 2, kWarpRows = 4;  // in units of 8; warps lie 2 by 2

// Rows of weights of one matrix.
struct Bf16Matrix {
  typedef Bf16Row Row;
  device const uint16_t* data;
  int k;
  Row row(int r) const { return {data + static_cast<size_t>(r) * k}; }
};
struct Mxfp4Matrix {
  typedef Mxfp4Row Row;
  device const uint32_t* blocks;
  device const uint8_t* scales;
  int k;
  Row row(int r) const {
    return {blocks + static_cast<size_t>(r) * (k / 8), scales + static_cast<size_t>(r) * (k / 32)};
  }
};
inline Bf16Matrix matrix_of(constant ExpertArgs& e, thread Bf16Matrix*, int expert) {
  return {e.dense + static_cast<size_t>(expert) * e.rows * e.k, e.k};
}
inline Mxfp4Matrix matrix_of(constant ExpertArgs& e, thread Mxfp4Matrix*, int expert) {
  const size_t row = static_cast<size_t>(expert) * e.rows;
  return {e.blocks + row * (e.k / 8), e.scales + row * (e.k / 32), e.k};
}

// Which rows of activations a tile takes: consecutive ones, or those of a list, several pairs to a token.
struct Activations {
  device const float* x;
  device const int32_t* pairs;  // or null
  int pairs_per_row, k;
  device const float* row(int t) const {
    const int at = pairs ? pairs[t] / pairs_per_row : t;
    return x + static_cast<size_t>(at) * k;
  }
};

// sums (32, 64) in threadgroup memory = activations (count, k) times rows [first_row, rows) of the weights; what is
// beyond counts as 0. All threads call it; the sums are there when it returns.
template <class Matrix>
inline threadgroup float* multiply_tile(Activations x, int count, Matrix weights, int first_row, int rows,
                                        threadgroup float* shared, uint thread_index, uint warp) {
  threadgroup float* x_tile = shared;
  threadgroup float* w_tile = x_tile + kMatrixTokens * kMatrixDepth;
  const int warp_token = static_cast<int>(warp % 2) * 8 * kWarpTokens,
            warp_row = static_cast<int>(warp / 2) * 8 * kWarpRows;
  constexpr int kPerWord = Matrix::Row::kPerWord, kWords = kMatrixDepth / kPerWord;

  simdgroup_matrix<float, 8, 8> sums[kWarpTokens][kWarpRows];
  for (int i = 0; i < kWarpTokens; ++i)
    for (int j = 0; j < kWarpRows; ++j) sums[i][j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);

  for (int k0 = 0; k0 < x.k; k0 += kMatrixDepth) {
    for (int i = thread_index; i < kMatrixTokens * kMatrixDepth / 2; i += kMatrixThreads) {
      const int token = i / (kMatrixDepth / 2), at = i % (kMatrixDepth / 2) * 2;
      float v[2] = {0, 0};
      if (token < count && k0 + at < x.k) load_floats<2>(x.row(token) + k0 + at, v);
      x_tile[token * kMatrixDepth + at] = v[0];
      x_tile[token * kMatrixDepth + at + 1] = v[1];
    }
    for (int i = thread_index; i < kMatrixRows * kWords; i += kMatrixThreads) {
      const int row = i / kWords, word = i % kWords;
      float w[kPerWord] = {};
      if (first_row + row < rows && k0 + word * kPerWord < x.k)
        weights.row(first_row + row).unpack(k0 / kPerWord + word, w);
      for (int n = 0; n < kPerWord; ++n) w_tile[row * kMatrixDepth + word * kPerWord + n] = w[n];
    }
    sync_block();  // both operands are there
    for (int k = 0; k < kMatrixDepth; k += 8) {
      simdgroup_matrix<float, 8, 8> left[kWarpTokens];
      for (int i = 0; i < kWarpTokens; ++i)
        simdgroup_load(left[i], x_tile + (warp_token + 8 * i) * kMatrixDepth + k, kMatrixDepth);
      for (int j = 0; j < kWarpRows; ++j) {
        simdgroup_matrix<float, 8, 8> right;  // rows of weights are its columns
        simdgroup_load(right, w_tile + (warp_row + 8 * j) * kMatrixDepth + k, kMatrixDepth, ulong2(0, 0),
                       true);
        for (int i = 0; i < kWarpTokens; ++i)
          simdgroup_multiply_accumulate(sums[i][j], left[i], right, sums[i][j]);
      }
    }
    sync_block();  // all have multiplied: the next step's operands, or the sums, may take their place
  }

  for (int i = 0; i < kWarpTokens; ++i)
    for (int j = 0; j < kWarpRows; ++j)
      simdgroup_store(sums[i][j], shared + (warp_token + 8 * i) * kMatrixRows + warp_row + 8 * j,
                      kMatrixRows);
  sync_block();  // all sums are there
  return shared;
}

kernel void linear_matrix(constant LinearArgs& a [[buffer(0)]], threadgroup float* shared [[threadgroup(0)]],
                          GPTOSS_PLACE) {
  const int first = static_cast<int>(block.y) * kMatrixTokens,
            first_row = static_cast<int>(block.x) * kMatrixRows;
  const int count = min(*a.count - first, kMatrixTokens);
  if (count <= 0) return;  // the whole block
  const Activations x = {a.x.values + static_cast<size_t>(first) * a.k, nullptr, 1, a.k};
  threadgroup const float* sums =
      multiply_tile(x, count, Bf16Matrix{a.weight, a.k}, first_row, a.rows, shared, thread_index, warp);
  for (int i = thread_index; i < count * kMatrixRows; i += kMatrixThreads) {
    const int token = i / kMatrixRows, row = first_row + i % kMatrixRows;
    if (row >= a.rows) continue;
    const float sum = sums[i] + (a.bias ? a.bias[row] : 0.0f);
    device float* y = a.y + static_cast<size_t>(first + token) * a.rows + row;
    *y = a.add ? *y + sum : sum;
  }
}

// group_pairs cuts an expert's pairs into tiles of kTileTokens. A block takes them up to the next multiple of `kJoined`,
// if it is the block of the first of these; otherwise there is nothing for it to do.
constant constexpr int kJoined = kMatrixTokens / kTileTokens;
inline ExpertTile joined_tile(constant MoeArgs& a, int tile) {
  ExpertTile all = a.tiles[tile];
  if (tile % kJoined != 0 && a.tiles[tile - 1].expert == all.expert) return {all.expert, all.first, 0};
  for (int next = tile + 1; next < *a.tile_count && next % kJoined != 0 && a.tiles[next].expert == all.expert;
       ++next)
    all.count += a.tiles[next].count;
  return all;
}

template <class Matrix>
kernel void moe_up_matrix(constant MoeArgs& a [[buffer(0)]], threadgroup float* shared [[threadgroup(0)]],
                          GPTOSS_PLACE) {
  if (static_cast<int>(block.y) >= *a.tile_count) return;
  const ExpertTile tile = joined_tile(a, block.y);
  if (tile.count == 0) return;  // the whole block
  const int first_row = static_cast<int>(block.x) * kMatrixRows, neurons = a.experts.rows / 2;
  const Activations x = {a.x.values, a.pairs + tile.first, a.chosen, a.experts.k};
  const Matrix weights = matrix_of(a.experts, static_cast<thread Matrix*>(nullptr), tile.expert);
  threadgroup const float* sums =
      multiply_tile(x, tile.count, weights, first_row, a.experts.rows, shared, thread_index, warp);
  device const float* bias = a.experts.bias + static_cast<size_t>(tile.expert) * a.experts.rows;
  for (int i = thread_index; i < tile.count * kMatrixRows / 2; i += kMatrixThreads) {
    const int pair = i / (kMatrixRows / 2), neuron = first_row / 2 + i % (kMatrixRows / 2);
    if (neuron >= neurons) continue;
    const float gate = sums[2 * i] + bias[2 * neuron], up = sums[2 * i + 1] + bias[2 * neuron + 1];
    store_operand(a.h, a.pairs[tile.first + pair], neuron, swiglu(gate, up, a.limit, a.alpha));
  }
}

template <class Matrix>
kernel void moe_down_matrix(constant MoeArgs& a [[buffer(0)]], threadgroup float* shared [[threadgroup(0)]],
                            GPTOSS_PLACE) {
  if (static_cast<int>(block.y) >= *a.tile_count) return;
  const ExpertTile tile = joined_tile(a, block.y);
  if (tile.count == 0) return;  // the whole block
  const int first_row = static_cast<int>(block.x) * kMatrixRows;
  const Activations x = {a.x.values, a.pairs + tile.first, 1, a.experts.k};
  const Matrix weights = matrix_of(a.experts, static_cast<thread Matrix*>(nullptr), tile.expert);
  threadgroup const float* sums =
      multiply_tile(x, tile.count, weights, first_row, a.experts.rows, shared, thread_index, warp);
  device const float* bias = a.experts.bias + static_cast<size_t>(tile.expert) * a.experts.rows;
  for (int i = thread_index; i < tile.count * kMatrixRows; i += kMatrixThreads) {
    const int pair = i / kMatrixRows, row = first_row + i % kMatrixRows;
    if (row < a.experts.rows)
      a.y[static_cast<size_t>(a.pairs[tile.first + pair]) * a.experts.rows + row] = sums[i] + bias[row];
  }
}

typedef decltype(moe_up_matrix<Bf16Matrix>) MoeMatrix;
template [[host_name("moe_up_matrix_bf16")]] kernel MoeMatrix moe_up_matrix<Bf16Matrix>;
template [[host_name("moe_up_matrix_mxfp4")]] kernel MoeMatrix moe_up_matrix<Mxfp4Matrix>;
template [[host_name("moe_down_matrix_bf16")]] kernel MoeMatrix moe_down_matrix<Bf16Matrix>;
template [[host_name("moe_down_matrix_mxfp4")]] kernel MoeMatrix moe_down_matrix<Mxfp4Matrix>;
