// Matrix products of a stage as one parallel loop over blocks of rows.
#pragma once

#include <algorithm>
#include <vector>

#include "state.h"
#include "threads.h"

namespace gptoss::cpu {

constexpr int kTaskRows = 64;  // rows of one task; its y stays in L1 or L2

inline int tasks_of(const Weight& weight) { return (weight.rows + kTaskRows - 1) / kTaskRows; }

// The activations of products of many tokens, and of integers, are arranged for them first, each once.
inline void arrange_panels(Pool& pool, const Kernels& kernels, bool exact, uint8_t* panels, Product* products, int count) {
  const auto of_integers = [&](const Product& product) { return kernels.integers && !exact && product.weight->scales; };
  const auto direct = [&](const Product& product) { return !of_integers(product) && product.tokens < kernels.panel_from; };
  const auto same_as_before = [&](int i) {
    return i > 0 && products[i].x == products[i - 1].x && products[i].tokens == products[i - 1].tokens &&
           products[i].weight->dot == products[i - 1].weight->dot;
  };
  int groups = 0;  // of columns
  for (int i = 0; i < count; ++i) {
    Product& product = products[i];
    if (direct(product)) continue;
    if (same_as_before(i)) {
      product.panel = products[i - 1].panel;
      continue;
    }
    product.panel = panels;
    panels += kernels.panel_bytes(product.tokens, product.weight->k, !exact);
    groups += (product.tokens + kTileColumns - 1) / kTileColumns;
  }
  pool.run(groups, [&](int task, int) {
    int index = 0;
    for (;; ++index) {
      if (direct(products[index]) || same_as_before(index)) continue;
      const int own = (products[index].tokens + kTileColumns - 1) / kTileColumns;
      if (task < own) break;
      task -= own;
    }
    const Product& product = products[index];
    const Weight& w = *product.weight;
    const int first = task * kTileColumns, tokens = std::min(kTileColumns, product.tokens - first);
    void* to = const_cast<uint8_t*>(product.panel) + kernels.panel_bytes(first, w.k, !exact);
    if (of_integers(product))
      kernels.integers(product.x + first, tokens, product.tokens, w.k, w.dot == kernels.dot_mxfp4, to);
    else
      kernels.panel(product.x + first, tokens, w.k, exact, to);
  });
}

// What one task computed: rows [row, row + rows) and tokens [token, token + tokens) of product `index`, as y
// (tokens, kTaskRows), on the thread that computed it.
struct Block {
  int index;
  int row, rows;
  int token, tokens;
  const float* y;
};

// Computes every product; each block goes to use(block).
template <class Use>
void run_products(Pool& pool, const Kernels& kernels, const CpuState& s, bool exact, Product* products, int count,
                  const Use& use) {
  arrange_panels(pool, kernels, exact, s.panels, products, count);
  const int most = exact ? kernels.most_tokens / 2 : kernels.most_tokens;
  const auto pieces = [&](const Product& p) { return (p.tokens + most - 1) / most; };
  const auto tasks = [&](const Product& p) { return tasks_of(*p.weight) * pieces(p); };
  int total = 0;
  for (int i = 0; i < count; ++i) total += tasks(products[i]);
  struct Place {
    int index, row, piece;
  };
  const auto place = [&](int task) {
    int index = 0;
    while (task >= tasks(products[index])) task -= tasks(products[index++]);
    const int blocks = tasks_of(*products[index].weight);
    return Place{index, task % blocks * kTaskRows, task / blocks};
  };
  const auto weights = [&](const Place& at) {
    const Weight& w = *products[at.index].weight;
    return static_cast<const uint8_t*>(w.data) + at.row * (w.transposed ? sizeof(uint16_t) : w.row_bytes);
  };
  const auto scales = [&](const Place& at) {
    const Weight& w = *products[at.index].weight;
    return w.scales ? w.scales + at.row * w.scale_bytes : nullptr;
  };
  pool.run(total, [&](int task, int worker) {
    const auto [index, row, piece] = place(task);
    const Product& product = products[index];
    const Weight& w = *product.weight;
    const int rows = std::min(kTaskRows, w.rows - row);
    const int token = piece * (product.tokens > most ? most : 0);
    const int tokens = std::min(most, product.tokens - token);
    float* y = s.scratch[worker].y;
    // Threads take turns, more or less: this one will be back after as many tasks as there are threads.
    const int later = task + pool.threads();
    w.dot({.weight = weights({index, row, piece}),
           .scales = scales({index, row, piece}),
           .row_bytes = w.row_bytes,
           .scale_bytes = w.scale_bytes,
           .rows = rows,
           .k = w.k,
           .x = product.x + token,
           .panel = product.panel ? product.panel + kernels.panel_bytes(token, w.k, !exact) : nullptr,
           .exact = exact,
           .tokens = tokens,
           .y = y,
           .y_stride = kTaskRows,
           .scratch = s.scratch[worker].dot,
           .next = later < total ? weights(place(later)) : nullptr,
           .next_scales = later < total ? scales(place(later)) : nullptr});
    use(Block{index, row, rows, token, tokens, y});
  });
}

}  // namespace gptoss::cpu
