// Operands of a matrix product and its float64 result.
#pragma once

#include <cstdint>
#include <vector>

#include "harness.h"
#include "simt/port.cuh"

namespace harness {

struct GemmCase {
  int m, n, k;
  std::vector<uint16_t> a, b;    // (m, k) and (n, k), bf16
  std::vector<double> expected;  // (m, n)

  GemmCase(int m, int n, int k) : m(m), n(n), k(k), a(size_t(m) * k), b(size_t(n) * k), expected(size_t(m) * n) {
    const std::vector<float> x = normal_numbers(a.size(), 1), y = normal_numbers(b.size(), 2);
    for (size_t i = 0; i < a.size(); ++i) a[i] = gptoss::simt::float_to_bf16(x[i]);
    for (size_t i = 0; i < b.size(); ++i) b[i] = gptoss::simt::float_to_bf16(y[i]);
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j)
        for (int l = 0; l < k; ++l)
          expected[size_t(i) * n + j] += double{gptoss::simt::bf16_to_float(a[size_t(i) * k + l])} *
                                         double{gptoss::simt::bf16_to_float(b[size_t(j) * k + l])};
  }
  // Products of bf16 are exact in float32; what is left is the sum of k of them: k roundings of 2^-24 of a partial
  // sum that is about sqrt(k) large, doubled for the tensor cores' own order.
  double tolerance() const { return 2.0 * k * std::sqrt(static_cast<double>(k)) * 0x1p-24; }
};

}  // namespace harness
