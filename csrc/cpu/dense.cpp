#include "dense.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "../quantize.h"

namespace gptoss::cpu {
namespace {

static_assert(kInt8Group == kPackGroup, "a group of weights meets a group of packed activations");

constexpr int kTaskRows = 64;

// How a matrix (rows, k) lies in its memory.
struct Int8Shape {
  size_t row_bytes, scale_bytes, scales, bytes;  // `scales`: where they begin
  Int8Shape(size_t rows, size_t k)
      : row_bytes(round_up(k, kInt8Group)),
        scale_bytes(row_bytes / kInt8Group),
        scales(round_up(rows * row_bytes, 64)),
        bytes(scales + round_up(rows * scale_bytes, 64)) {}
};

}  // namespace

Weight dense_bf16(const Kernels& kernels, const Tensor& matrix) {
  const int rows = static_cast<int>(matrix.shape[0]), k = static_cast<int>(matrix.shape[1]);
  return {.data = matrix.data, .row_bytes = k * sizeof(uint16_t), .rows = rows, .k = k, .dot = kernels.dot_bf16};
}

Int8Copy dense_int8(const Kernels& kernels, Pool& pool, const Tensor& matrix, const std::string& name) {
  const int rows = static_cast<int>(matrix.shape[0]), k = static_cast<int>(matrix.shape[1]);
  const Int8Shape shape(rows, k);
  Memory memory(shape.bytes, "weights in 8 bits");
  uint8_t *values = memory.data(), *scales = values + shape.scales;
  std::vector<QuantizationError> errors((rows + kTaskRows - 1) / kTaskRows);
  pool.run(static_cast<int>(errors.size()), [&](int task, int) {
    const size_t row = static_cast<size_t>(task) * kTaskRows;
    errors[task] = quantize_int8(matrix.bf16() + row * k, std::min<int64_t>(kTaskRows, rows - row), k,
                                 reinterpret_cast<int8_t*>(values + row * shape.row_bytes), scales + row * shape.scale_bytes);
  });
  QuantizationError all;
  for (const QuantizationError& error : errors) {  // in the order of rows: whoever computed them
    all.squared_error += error.squared_error;
    all.squared_weight += error.squared_weight;
    all.largest = std::max(all.largest, error.largest);
    all.finite = all.finite && error.finite;
  }
  if (!all.finite)
    throw std::invalid_argument(name + ": expected finite weights, found an infinity or a NaN; load with dense='bf16'");
  TensorError error{name};
  if (all.squared_weight > 0) {
    error.relative_rms = std::sqrt(all.squared_error / all.squared_weight);
    error.largest = all.largest / std::sqrt(all.squared_weight / (static_cast<double>(rows) * k));
  }
  return {.weight = {.data = values,
                     .scales = scales,
                     .row_bytes = shape.row_bytes,
                     .scale_bytes = shape.scale_bytes,
                     .rows = rows,
                     .k = k,
                     .dot = kernels.dot_int8},
          .memory = std::move(memory),
          .error = std::move(error)};
}

size_t dense_int8_bytes(const Config& c) {
  const auto bytes = [](int rows, int k) { return Int8Shape(rows, k).bytes; };
  const size_t layer = bytes(c.q_size(), c.hidden_size) + 2 * bytes(c.kv_size(), c.hidden_size) +
                       bytes(c.hidden_size, c.q_size());
  return layer * c.num_hidden_layers + bytes(c.vocab_size, c.hidden_size);
}

}  // namespace gptoss::cpu
