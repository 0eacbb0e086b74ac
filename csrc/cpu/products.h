// Matrix products of a stage as one parallel loop over blocks of rows.
#pragma once

#include <algorithm>
#include <vector>

#include "state.h"
#include "threads.h"

namespace gptoss::cpu {

constexpr int kTaskRows = 64;  // rows of one task; its y stays in L1 or L2

inline int tasks_of(const Weight& weight) { return (weight.rows + kTaskRows - 1) / kTaskRows; }

// Computes every product; each block of rows goes to use(index of the product, first row, rows, y, worker),
// y being (tokens, kTaskRows), on the thread that computed it.
template <class Use>
void run_products(Pool& pool, const std::vector<Scratch>& scratch, const Product* products, int count, const Use& use) {
  int tasks = 0;
  for (int i = 0; i < count; ++i) tasks += tasks_of(*products[i].weight);
  pool.run(tasks, [&](int task, int worker) {
    int index = 0;
    while (task >= tasks_of(*products[index].weight)) task -= tasks_of(*products[index++].weight);
    const Product& product = products[index];
    const Weight& w = *product.weight;
    const int row = task * kTaskRows, rows = std::min(kTaskRows, w.rows - row);
    const size_t offset = w.transposed ? row * sizeof(uint16_t) : row * w.row_bytes;
    float* y = scratch[worker].y;
    w.dot({.weight = static_cast<const uint8_t*>(w.data) + offset,
           .scales = w.scales ? w.scales + row * w.scale_bytes : nullptr,
           .row_bytes = w.row_bytes,
           .scale_bytes = w.scale_bytes,
           .rows = rows,
           .k = w.k,
           .x = product.x,
           .tokens = product.tokens,
           .y = y,
           .y_stride = kTaskRows,
           .scratch = scratch[worker].dot});
    use(index, row, rows, y, worker);
  });
}

}  // namespace gptoss::cpu
