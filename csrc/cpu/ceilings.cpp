#include "ceilings.h"

#include <algorithm>
#include <chrono>

namespace gptoss::cpu {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// FLOP per second of `multiply_add` on registers, on all threads together.
double multiply_add_rate(Pool& pool, double seconds, float (*multiply_add)(long, long*), long iterations) {
  volatile float sink = 0;
  double flops = 0;
  const auto start = std::chrono::steady_clock::now();
  do {
    std::vector<long> counts(static_cast<size_t>(pool.threads()));
    std::vector<float> sums(counts.size());
    pool.run(pool.threads(), [&](int task, int) { sums[task] = multiply_add(iterations, &counts[task]); });
    for (size_t i = 0; i < counts.size(); ++i) {
      flops += static_cast<double>(counts[i]);
      sink = sink + sums[i];
    }
  } while (seconds_since(start) < seconds);
  return flops / seconds_since(start);
}

}  // namespace

double read_bandwidth(const Kernels& kernels, Pool& pool, size_t bytes, double seconds) {
  const size_t slice = 4 << 20, tasks = std::max<size_t>(bytes / slice, 1);
  std::vector<float> data(tasks * slice / sizeof(float), 1.0f);
  volatile float sink = 0;
  size_t read = 0;
  const auto start = std::chrono::steady_clock::now();
  do {
    std::vector<float> sums(tasks);
    pool.run(static_cast<int>(tasks), [&](int task, int) {
      sums[task] = kernels.read_sum(reinterpret_cast<const uint8_t*>(data.data()) + task * slice, slice);
    });
    for (float s : sums) sink = sink + s;
    read += tasks * slice;
  } while (seconds_since(start) < seconds);
  return static_cast<double>(read) / seconds_since(start);
}

double fma_rate(const Kernels& kernels, Pool& pool, double seconds) {
  return multiply_add_rate(pool, seconds, kernels.multiply_add, 2'000'000);
}

double matrix_rate(const Kernels& kernels, Pool& pool, double seconds) {
  return kernels.matrix_multiply_add ? multiply_add_rate(pool, seconds, kernels.matrix_multiply_add, 200'000) : 0;
}

}  // namespace gptoss::cpu
