// HIP: the kernels that CUDA shares, in waves of 64 or 32 lanes, and the matrix cores of each. Built twice, see
// cmake/EmulatorTests.cmake.
#include "gemm_case.h"
#include "gpu_vector.h"
#include "kernels/reduce.cuh"
#include "kernels/split_sum.cuh"
#include "kernels/transpose.cuh"
#include "kernels/wave_gemm.cuh"

namespace {

using emulator::Kind;
using gptoss::simt::kWarp;
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
  (void)launch(kernels::reduce_rows<kFault>, {.grid = kRows, .block = kernels::kReduceThreads}, in.data(), out.data(),
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
double split_sum() {
  constexpr int kDepth = 50, kWidth = 100, kParts = 4;
  const std::vector<float> x = harness::normal_numbers(kDepth * kWidth, 4);
  std::vector<double> expected(kWidth);
  for (int k = 0; k < kDepth; ++k)
    for (int i = 0; i < kWidth; ++i) expected[i] += x[k * kWidth + i];
  GpuVector<float> in(x), partial(kParts * kWidth), out(kWidth);
  GpuVector<unsigned> counter(std::vector<unsigned>(2, 0u));
  (void)launch(kernels::split_sum<kFault>, {.grid = {2, kParts}, .block = kernels::kSplitThreads}, in.data(),
               partial.data(), counter.data(), out.data(), kDepth, kWidth);
  return harness::worst(out.host(), expected, 1e-5);
}

using GemmKernel = void (*)(const uint16_t*, const uint16_t*, float*, int, int);
double gemm(GemmKernel kernel, unsigned tile) {
  static const harness::GemmCase problem(64, 32, 48);
  GpuVector<uint16_t> a(problem.a), b(problem.b);
  GpuVector<float> c(problem.expected.size());
  (void)launch(kernel, {.grid = {problem.m / tile, problem.n / tile}, .block = kWarp}, a.data(), b.data(), c.data(),
               problem.n, problem.k);
  return harness::worst(c.host(), problem.expected, problem.tolerance());
}
template <Fault kFault>
double mfma_16() { return gemm(kernels::mfma_gemm_16<kFault>, 16); }
template <Fault kFault>
double mfma_32() { return gemm(kernels::mfma_gemm_32<kFault>, 32); }
template <Fault kFault>
double wmma() { return gemm(kernels::wmma_gemm<kFault>, 16); }

// Lanes 0 to 31 of a wave of 64 may shuffle among themselves; reading beyond them may not be.
__global__ void half_wave(float* y, int distance) {
  float value = threadIdx.x;
  if (threadIdx.x < 32) value += __shfl_xor(value, distance);
  y[threadIdx.x] = value;
}
double half_wave_with(int distance) {
  std::vector<double> expected(64);
  for (int i = 0; i < 64; ++i) expected[i] = i < 32 ? i + (i ^ distance) : i;
  GpuVector<float> out(64);
  (void)launch(half_wave, {.grid = 1, .block = 64}, out.data(), distance);
  return harness::worst(out.host(), expected, 1e-5);
}

void shared_kernels() {
  expect_clean("reduce", reduce<Fault::kNone>);
  expect_clean("transpose", transpose<Fault::kNone>);
  expect_clean("split_sum", split_sum<Fault::kNone>);
  expect_caught("reduce: no barrier", {Kind::kRace}, reduce<Fault::kMissingBarrier>, "reduce.cuh");
  expect_caught("transpose: no barrier", {Kind::kRace}, transpose<Fault::kMissingBarrier>, "transpose.cuh");
  expect_caught("split_sum: no fence", {Kind::kRace}, split_sum<Fault::kMissingFence>, "split_sum.cuh");
}

void waves_of_64() {
  expect_clean("mfma_gemm_16", mfma_16<Fault::kNone>);
  expect_clean("mfma_gemm_32", mfma_32<Fault::kNone>);
  expect_clean("half_wave", [] { return half_wave_with(16); });
  expect_caught("half_wave: lanes that take no part", {Kind::kAbsentLane}, [] { return half_wave_with(32); });
  expect_caught("reduce: as if a wave had 32 lanes", {}, reduce<Fault::kWave32>);
  expect_caught("mfma_gemm_16: the wrong block of k", {}, mfma_16<Fault::kWrongBlock>);
  expect_caught("mfma_gemm_16: the result transposed", {}, mfma_16<Fault::kTransposed>);
  expect_caught("mfma_gemm_16: half a wave", {Kind::kDivergence}, mfma_16<Fault::kHalfWaveMfma>, "wave_gemm.cuh");
  expect_caught("mfma_gemm_32: a wrong fragment index", {}, mfma_32<Fault::kWrongFragmentIndex>);
  expect_caught("wmma_gemm: the wrong instruction for this wave", {Kind::kInstruction}, wmma<Fault::kNone>);
}

void waves_of_32() {
  expect_clean("wmma_gemm", wmma<Fault::kNone>);
  expect_clean("reduce: as if a wave had 32 lanes", reduce<Fault::kWave32>);
  expect_caught("wmma_gemm: lanes that do not repeat the rows", {Kind::kInstruction}, wmma<Fault::kWrongFragmentRow>);
  expect_caught("wmma_gemm: a wrong fragment index", {}, wmma<Fault::kWrongFragmentIndex>);
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  shared_kernels();
  kWarp == 64 ? waves_of_64() : waves_of_32();
  return harness::finish(kWarp == 64 ? "wave64_test" : "wave32_test");
}
