// What is multiplied by what in a product on matrix cores, and what becomes of the result: the same for every
// vendor.
//
// An item is kStrips strips of rows of a matrix times some columns of activations: column c is bf16 term c %
// terms of source c / terms, a token or an expert's pair; columns beyond the live sources repeat the last
// one. A kernel takes the weights of an item from weights(), its columns from the rows of x() that source()
// names, and hands all its sums to finish(), by some threads, with a barrier before and behind.
//
// `Layout` is the order of the weights: kStripRows, and bf16_strip_bytes(k), mxfp4_strip_bytes(k) of a strip.
// Tested with the kernels that take them, by product_cases.h.
#pragma once

#include "../swiglu.h"
#include "operand.cuh"

namespace gptoss::simt {

// Threads that share work: this one's number, and how many they are.
struct Workers {
  int rank, size;
};

// y = x W' + bias, or added to y. Items: strips, and for each of them its tiles of tokens.
template <class Layout, int kStrips = 1>
struct LinearJob {
  static constexpr bool kKnowsWeights = true;  // before the kernels that came before have ended
  static constexpr int kRows = kStrips * Layout::kStripRows;
  LinearArgs a;
  int tiles, tile_tokens;  // made for the grid, not the live ones

  GPTOSS_DEVICE int parts() const { return a.rows / kRows; }
  GPTOSS_DEVICE int column_tiles() const { return tiles; }
  GPTOSS_DEVICE int item(int part, int tile) const { return part * tiles + tile; }
  GPTOSS_DEVICE int items() const { return parts() * tiles; }
  GPTOSS_DEVICE const uint8_t* weights(int item) const {
    return a.arranged + item / tiles * (kStrips * Layout::bf16_strip_bytes(a.k));
  }
  GPTOSS_DEVICE int depth() const { return a.k; }
  GPTOSS_DEVICE const Operand& x() const { return a.x; }
  GPTOSS_DEVICE int first(int item) const { return item % tiles * tile_tokens; }
  GPTOSS_DEVICE int sources(int item) const { return min(*a.count - first(item), tile_tokens); }
  // A grid may have been made for more tokens than memory was.
  GPTOSS_DEVICE int source(int item, int i) const { return max(min(first(item) + i, *a.count - 1), 0); }
  // By all of the workers; sum(i, row) is the product of source i.
  template <class Sum>
  GPTOSS_DEVICE void finish(int item, int live, const Workers& workers, const Sum& sum) const {
    for (int e = workers.rank; e < live * kRows; e += workers.size) {
      const int i = e / kRows, row = item / tiles * kRows + e % kRows;
      const float value = sum(i, e % kRows) + (a.bias ? a.bias[row] : 0.0f);
      float* y = a.y + static_cast<size_t>(first(item) + i) * a.rows + row;
      *y = a.add ? *y + value : value;
    }
  }
};

// Of experts, in MXFP4. Items: tiles, and for each of them its strips.
template <class Layout, int kStrips = 1>
struct ExpertJob {
  static constexpr bool kKnowsWeights = false;  // they are those that the router chose
  static constexpr int kRows = kStrips * Layout::kStripRows;
  MoeArgs a;

  GPTOSS_DEVICE int parts() const { return a.experts.rows / kRows; }
  GPTOSS_DEVICE int column_tiles() const { return *a.tile_count; }
  GPTOSS_DEVICE int item(int part, int tile) const { return tile * parts() + part; }
  GPTOSS_DEVICE int items() const { return *a.tile_count * parts(); }
  GPTOSS_DEVICE const ExpertTile& tile(int item) const { return a.tiles[item / parts()]; }
  GPTOSS_DEVICE const uint8_t* weights(int item) const {
    const size_t part = static_cast<size_t>(tile(item).expert) * parts() + item % parts();
    return a.experts.arranged + part * (kStrips * Layout::mxfp4_strip_bytes(a.experts.k));
  }
  GPTOSS_DEVICE int depth() const { return a.experts.k; }
  GPTOSS_DEVICE const Operand& x() const { return a.x; }
  GPTOSS_DEVICE int sources(int item) const { return tile(item).count; }
  GPTOSS_DEVICE int pair(int item, int i) const { return a.pairs[tile(item).first + i]; }
  GPTOSS_DEVICE const float* bias(int item) const {
    return a.experts.bias + static_cast<size_t>(tile(item).expert) * a.experts.rows + item % parts() * kRows;
  }
};

template <class Layout, int kStrips = 1>
struct UpJob : ExpertJob<Layout, kStrips> {
  using Base = ExpertJob<Layout, kStrips>;
  using Base::a;
  GPTOSS_DEVICE int source(int item, int i) const { return this->pair(item, i) / a.chosen; }
  // Gate and up rows are interleaved: two rows are a neuron.
  template <class Sum>
  GPTOSS_DEVICE void finish(int item, int live, const Workers& workers, const Sum& sum) const {
    constexpr int kNeurons = Base::kRows / 2;
    const float* bias = this->bias(item);
    for (int e = workers.rank; e < live * kNeurons; e += workers.size) {
      const int i = e / kNeurons, n = e % kNeurons;
      const float gate = sum(i, 2 * n) + bias[2 * n], up = sum(i, 2 * n + 1) + bias[2 * n + 1];
      store_operand(a.h, this->pair(item, i), item % this->parts() * kNeurons + n,
                    swiglu(gate, up, a.limit, a.alpha));
    }
  }
};

template <class Layout, int kStrips = 1>
struct DownJob : ExpertJob<Layout, kStrips> {
  using Base = ExpertJob<Layout, kStrips>;
  using Base::a;
  GPTOSS_DEVICE int source(int item, int i) const { return this->pair(item, i); }
  template <class Sum>
  GPTOSS_DEVICE void finish(int item, int live, const Workers& workers, const Sum& sum) const {
    for (int e = workers.rank; e < live * Base::kRows; e += workers.size) {
      const int i = e / Base::kRows, row = e % Base::kRows;
      a.y[static_cast<size_t>(this->pair(item, i)) * a.experts.rows + item % this->parts() * Base::kRows +
          row] = sum(i, row) + this->bias(item)[row];
    }
  }
};

}  // namespace gptoss::simt
