// The product of an sm_80: cp.async, ldmatrix, mma.sync. Clean over many seeds, and with one fault each.
#include "gemm_case.h"
#include "gpu_vector.h"
#include "kernels/mma_gemm_sm80.cuh"

namespace {

using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;

template <Fault kFault>
double mma_gemm() {
  static const harness::GemmCase problem(64, 128, 160);
  GpuVector<uint16_t> a(problem.a), b(problem.b);
  GpuVector<float> c(problem.expected.size());
  (void)gptoss::simt::launch(
      kernels::mma_gemm<kFault>,
      {.grid = {static_cast<unsigned>(problem.m / 64), static_cast<unsigned>(problem.n / 64)},
       .block = kernels::kMmaThreads,
       .dynamic_shared = kernels::kMmaShared},
      a.data(), b.data(), c.data(), problem.m, problem.n, problem.k);
  return harness::worst(c.host(), problem.expected, problem.tolerance());
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  expect_clean("mma_gemm", mma_gemm<Fault::kNone>);
  expect_caught("mma_gemm: one group too many on its way", {Kind::kInFlight}, mma_gemm<Fault::kWrongWaitCount>,
                "mma_gemm_sm80.cuh");
  expect_caught("mma_gemm: a group not committed", {Kind::kInFlight}, mma_gemm<Fault::kMissingCommit>);
  expect_caught("mma_gemm: no barrier after the wait", {Kind::kInFlight, Kind::kRace},
                mma_gemm<Fault::kMissingCopyBarrier>);
  expect_caught("mma_gemm: a stage filled too early", {Kind::kInFlight, Kind::kRace},
                mma_gemm<Fault::kMissingReuseBarrier>);
  expect_caught("mma_gemm: a fragment's rows and columns changed", {}, mma_gemm<Fault::kWrongFragmentIndex>);
  expect_caught("mma_gemm: wrong rows given to ldmatrix", {}, mma_gemm<Fault::kWrongFragmentRow>);
  expect_caught("mma_gemm: a swizzle forgotten", {}, mma_gemm<Fault::kWrongSwizzle>);
  expect_caught("mma_gemm: a copy from a misaligned address", {Kind::kMisaligned}, mma_gemm<Fault::kMisalignedCopy>);
  expect_caught("mma_gemm: half a warp", {Kind::kDivergence}, mma_gemm<Fault::kHalfWarpMma>, "mma.sync");
  return harness::finish("tensor_core_test");
}
