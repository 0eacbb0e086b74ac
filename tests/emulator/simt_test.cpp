// Kernels of the plain SIMT kind in CUDA's language: clean over many seeds, and with one fault each.
#include "kernels/reduce.cuh"

#include "gpu_vector.h"
#include "harness.h"

namespace {

using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;
using gptoss::simt::launch;

template <Fault kFault>
double reduce() {
  constexpr int kRows = 3, kColumns = 700;
  const std::vector<float> x = harness::normal_numbers(kRows * kColumns, 1);
  std::vector<double> expected(kRows);
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kColumns; ++c) expected[r] += x[r * kColumns + c];
  GpuVector<float> in(x), out(kRows);
  (void)launch(kernels::reduce_rows<kFault>, {.grid = kRows, .block = kernels::kReduceThreads}, in.data(), out.data(), kColumns);
  return harness::worst(out.host(), expected, 1e-4);
}

void reductions() {
  expect_clean("reduce", reduce<Fault::kNone>);
  expect_caught("reduce without its barrier", {Kind::kRace}, reduce<Fault::kMissingBarrier>, "reduce.cuh");
  expect_caught("reduce one element too far", {Kind::kOutOfBounds}, reduce<Fault::kIndexOffByOne>, "reduce.cuh");
  expect_caught("reduce with a warp that left", {Kind::kDivergence}, reduce<Fault::kEarlyReturn>);
  expect_caught("reduce from memory never written", {}, reduce<Fault::kUninitialised>);
}

}  // namespace

int main() {
  reductions();
  return harness::finish("simt_test");
}
