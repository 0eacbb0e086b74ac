// Kernels of the plain SIMT kind in CUDA's language: clean over many seeds, and with one fault each.
#include "gpu_vector.h"
#include "harness.h"
#include "kernels/reduce.cuh"
#include "kernels/softmax.cuh"
#include "kernels/split_sum.cuh"
#include "kernels/transpose.cuh"
#include "kernels/warp_scan.cuh"

namespace {

using emulator::Kind;
using gptoss::simt::launch;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;

template <Fault kFault>
double reduce() {
  constexpr int kRows = 3, kColumns = 700;
  const std::vector<float> x = harness::normal_numbers(kRows * kColumns, 1);
  std::vector<double> expected(kRows);
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kColumns; ++c) expected[r] += x[r * kColumns + c];
  GpuVector<float> in(x), out(kRows);
  if (kFault == Fault::kUseAfterFree) (void)cudaFree(in.data());
  const float* pointer = kFault == Fault::kHostPointer ? x.data() : in.data();
  (void)launch(kernels::reduce_rows<kFault>, {.grid = kRows, .block = kernels::kReduceThreads}, pointer, out.data(),
               kColumns);
  return harness::worst(out.host(), expected, 1e-4);
}

template <Fault kFault>
double transpose() {
  constexpr int kRows = 50, kColumns = 70;
  const std::vector<float> x = harness::normal_numbers(kRows * kColumns, 2);
  std::vector<double> expected(x.size());
  for (int r = 0; r < kRows; ++r)
    for (int c = 0; c < kColumns; ++c) expected[c * kRows + r] = x[r * kColumns + c];
  GpuVector<float> in(x), out(x.size());
  (void)launch(kernels::transpose<kFault>, {.grid = {3, 2}, .block = {kernels::kTile, kernels::kTileRows}}, in.data(),
               out.data(), kRows, kColumns);
  return harness::worst(out.host(), expected, 1e-30);
}

template <Fault kFault>
double softmax() {
  constexpr int kRows = 6, kColumns = 77;
  const std::vector<float> x = harness::normal_numbers(kRows * kColumns, 3);
  std::vector<double> expected(x.size());
  for (int r = 0; r < kRows; ++r) {
    double sum = 0;
    for (int c = 0; c < kColumns; ++c) sum += std::exp(double{x[r * kColumns + c]});
    for (int c = 0; c < kColumns; ++c) expected[r * kColumns + c] = std::exp(double{x[r * kColumns + c]}) / sum;
  }
  GpuVector<float> in(x), out(x.size());
  (void)launch(kernels::softmax<kFault>, {.grid = 2, .block = kernels::kSoftmaxRows * 32}, in.data(), out.data(), kRows,
               kColumns);
  return harness::worst(out.host(), expected, 1e-6);
}

template <Fault kFault>
double split_sum() {
  constexpr int kDepth = 50, kWidth = 100, kParts = 4;
  const std::vector<float> x = harness::normal_numbers(kDepth * kWidth, 4);
  std::vector<double> expected(kWidth);
  for (int k = 0; k < kDepth; ++k)
    for (int i = 0; i < kWidth; ++i) expected[i] += x[k * kWidth + i];
  GpuVector<float> in(x), partial(kParts * kWidth), out(kWidth);
  GpuVector<unsigned> counter(std::vector<unsigned>(2, 0u));
  double error = 0;
  for (int round = 0; round < 2; ++round) {  // the second finds the counter as the first left it
    (void)cudaMemset(out.data(), 0xff, kWidth * sizeof(float));
    (void)launch(kernels::split_sum<kFault>, {.grid = {2, kParts}, .block = kernels::kSplitThreads}, in.data(),
                 partial.data(), counter.data(), out.data(), kDepth, kWidth);
    const double now = harness::worst(out.host(), expected, 1e-5);
    if (!(now <= error)) error = now;
  }
  return error;
}

template <Fault kFault>
double warp_scan() {
  constexpr int kCount = 64;
  const std::vector<float> x = harness::normal_numbers(kCount, 5);
  std::vector<double> expected(kCount);
  for (int i = 0; i < kCount; ++i) expected[i] = x[i] + (i % 32 == 0 ? 0 : expected[i - 1]);
  GpuVector<float> in(x), out(kCount);
  (void)launch(kernels::warp_scan<kFault>, {.grid = kCount / 32, .block = 32}, in.data(), out.data());
  return harness::worst(out.host(), expected, 1e-5);
}

template <Fault kFault>
double double_vectors() {
  constexpr int kCount = 256;
  const std::vector<float> x = harness::normal_numbers(kCount + 4, 6);
  std::vector<double> expected(kCount);
  for (int i = 0; i < kCount; ++i) expected[i] = 2.0 * x[i];
  GpuVector<float> in(x), out(kCount);
  (void)launch(kernels::double_vectors<kFault>, {.grid = 2, .block = 32}, in.data(), out.data(), kCount);
  return harness::worst(out.host(), expected, 1e-30);
}

void clean_kernels() {
  expect_clean("reduce", reduce<Fault::kNone>);
  expect_clean("transpose", transpose<Fault::kNone>);
  expect_clean("softmax", softmax<Fault::kNone>);
  expect_clean("split_sum", split_sum<Fault::kNone>);
  expect_clean("warp_scan", warp_scan<Fault::kNone>);
  expect_clean("double_vectors", double_vectors<Fault::kNone>);
}

void planted_faults() {
  expect_caught("reduce: no barrier", {Kind::kRace}, reduce<Fault::kMissingBarrier>, "reduce.cuh");
  expect_caught("reduce: one element too far", {Kind::kOutOfBounds}, reduce<Fault::kIndexOffByOne>, "reduce.cuh");
  expect_caught("reduce: a warp leaves before the barrier", {Kind::kDivergence}, reduce<Fault::kEarlyReturn>);
  expect_caught("reduce: shared memory never written", {}, reduce<Fault::kUninitialised>);
  expect_caught("reduce: a pointer of the host", {Kind::kHostMemory}, reduce<Fault::kHostPointer>, "reduce.cuh");
  expect_caught("reduce: memory that was freed", {Kind::kOutOfBounds}, reduce<Fault::kUseAfterFree>, "was freed");
  expect_caught("transpose: no barrier", {Kind::kRace}, transpose<Fault::kMissingBarrier>, "transpose.cuh");
  expect_caught("transpose: a barrier in a branch", {Kind::kDivergence, Kind::kRace},
                transpose<Fault::kBarrierInBranch>, "transpose.cuh");
  expect_caught("transpose: a bound forgotten", {Kind::kOutOfBounds}, transpose<Fault::kIndexOffByOne>);
  expect_caught("transpose: the tile's neighbour", {}, transpose<Fault::kSharedOffByOne>);
  expect_caught("softmax: a mask without lane 31", {Kind::kDivergence}, softmax<Fault::kMaskOffByOne>, "softmax.cuh");
  expect_caught("softmax: a shuffle in a branch", {Kind::kDivergence, Kind::kAbsentLane},
                softmax<Fault::kShuffleInBranch>, "shfl");
  expect_caught("softmax: a lane that takes no part", {Kind::kAbsentLane}, softmax<Fault::kShuffleFromAbsentLane>,
                "reads lane 24");
  expect_caught("softmax: a sum that only lane 0 has", {}, softmax<Fault::kLaneZeroOnly>);
  expect_caught("split_sum: no fence", {Kind::kRace}, split_sum<Fault::kMissingFence>, "split_sum.cuh");
  expect_caught("split_sum: no barrier before counting", {Kind::kRace}, split_sum<Fault::kMissingBarrier>);
  expect_caught("split_sum: no barrier after counting", {Kind::kRace}, split_sum<Fault::kMissingSecondBarrier>);
  expect_caught("split_sum: a counter that is not atomic", {Kind::kRace}, split_sum<Fault::kPlainIncrement>);
  expect_caught("split_sum: a counter that is not reset", {}, split_sum<Fault::kCounterNotReset>);
  expect_caught("warp_scan: no __syncwarp", {Kind::kRace}, warp_scan<Fault::kMissingWarpSync>, "warp_scan.cuh");
  expect_caught("double_vectors: a misaligned vector", {Kind::kMisaligned}, double_vectors<Fault::kMisalignedVector>,
                "warp_scan.cuh");
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  clean_kernels();
  planted_faults();
  return harness::finish("simt_test");
}
