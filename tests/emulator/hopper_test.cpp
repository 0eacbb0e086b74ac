// What an sm_90 adds: mbarriers, bulk and tensor copies, wgmma, warp specialisation, dependent launches.
#include "gemm_case.h"
#include "gpu_vector.h"
#include "kernels/dependent.cuh"
#include "kernels/relay.cuh"
#include "kernels/wgmma_gemm_sm90a.cuh"
#include "tensor_map.h"

namespace {

using emulator::Kind;
using gptoss::simt::launch;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;

template <Fault kFault>
double wgmma_gemm() {
  static const harness::GemmCase problem(64, 128, 320);
  GpuVector<uint16_t> a(problem.a), b(problem.b);
  GpuVector<float> c(problem.expected.size());
  CUtensorMap a_map, b_map;
  if (!gptoss::cuda::make_tensor_map(&a_map, a.data(), problem.m, problem.k, problem.k, 64, 64)) return 1e30;
  if (!gptoss::cuda::make_tensor_map(&b_map, b.data(), problem.n, problem.k, problem.k, 64, 64)) return 1e30;
  (void)gptoss::simt::allow_dynamic_shared(kernels::wgmma_gemm<kFault>, kernels::kWgmmaShared);
  (void)launch(kernels::wgmma_gemm<kFault>,
               {.grid = {static_cast<unsigned>(problem.m / 64), static_cast<unsigned>(problem.n / 64)},
                .block = kernels::kWgmmaThreads,
                .dynamic_shared = kernels::kWgmmaShared},
               a_map, b_map, c.data(), problem.m, problem.n, problem.k);
  return harness::worst(c.host(), problem.expected, problem.tolerance());
}

template <Fault kFault>
double wgmma_from_registers() {
  static const harness::GemmCase problem(64, 64, 64);
  GpuVector<uint16_t> a(problem.a), b(problem.b);
  GpuVector<float> c(problem.expected.size());
  (void)launch(kernels::wgmma_from_registers<kFault>,
               {.grid = 1, .block = kernels::kConsumers, .dynamic_shared = 2 * kernels::kWgmmaTileBytes + 8}, a.data(),
               b.data(), c.data());
  return harness::worst(c.host(), problem.expected, problem.tolerance());
}

template <Fault kFault>
double relay() {
  constexpr int kCount = 6 * kernels::kRelayStep;
  const std::vector<float> x = harness::normal_numbers(kCount, 7);
  std::vector<double> expected(kCount);
  for (int i = 0; i < kCount; ++i) expected[i] = 3 * x[i] + 1;
  GpuVector<float> in(x), out(kCount);
  const auto kernel = kFault == Fault::kMissingReuseBarrier ? kernels::relay_unguarded<kFault> : kernels::relay<kFault>;
  (void)launch(kernel, {.grid = 1, .block = kernels::kRelayThreads}, in.data(), out.data(), kCount);
  return harness::worst(out.host(), expected, 1e-5);
}

template <Fault kFault>
double dependent_pair() {
  constexpr int kCount = 4 * kernels::kDependentThreads;
  const std::vector<float> x = harness::normal_numbers(kCount, 8), w = harness::normal_numbers(kCount, 9);
  std::vector<double> expected(kCount);
  for (int i = 0; i < kCount; ++i) expected[i] = 2.0 * x[i] + w[i];
  GpuVector<float> in(x), weights(w), h(std::vector<float>(kCount, 5.0f)), out(kCount);
  for (int round = 0; round < 2; ++round) {
    (void)launch(kernels::first_of_two<kFault>, {.grid = 4, .block = kernels::kDependentThreads, .programmatic = round > 0},
                 in.data(), h.data());
    (void)launch(kernels::second_of_two<kFault>, {.grid = 4, .block = kernels::kDependentThreads, .programmatic = true},
                 h.data(), weights.data(), out.data());
  }
  return harness::worst(out.host(), expected, 1e-5);
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  expect_clean("wgmma_gemm", wgmma_gemm<Fault::kNone>);
  expect_clean("wgmma_from_registers", wgmma_from_registers<Fault::kNone>);
  expect_clean("relay", relay<Fault::kNone>);
  expect_clean("dependent_pair", dependent_pair<Fault::kNone>);

  const char* file = "wgmma_gemm_sm90a.cuh";
  expect_caught("wgmma_gemm: the producer waits for the wrong phase", {Kind::kInFlight, Kind::kDeadlock, Kind::kRace},
                wgmma_gemm<Fault::kWrongPhase>, file);
  expect_caught("wgmma_gemm: half the bytes announced", {Kind::kInFlight, Kind::kDeadlock}, wgmma_gemm<Fault::kWrongBytes>,
                file);
  expect_caught("wgmma_gemm: one arrival too few expected", {Kind::kInFlight, Kind::kDeadlock, Kind::kInstruction, Kind::kRace},
                wgmma_gemm<Fault::kWrongArrivals>, file);
  expect_caught("wgmma_gemm: a stage given back too early", {Kind::kInFlight}, wgmma_gemm<Fault::kEarlyRelease>, file);
  expect_caught("wgmma_gemm: no wait for the products", {Kind::kInFlight}, wgmma_gemm<Fault::kMissingProductWait>, file);
  expect_caught("wgmma_gemm: no fence for the registers", {Kind::kInFlight}, wgmma_gemm<Fault::kMissingRegisterFence>,
                "wgmma.fence");
  expect_caught("wgmma_gemm: a descriptor's wrong stride", {}, wgmma_gemm<Fault::kWrongDescriptorStride>);
  expect_caught("wgmma_gemm: a descriptor without the swizzle", {}, wgmma_gemm<Fault::kUnswizzledDescriptor>);
  expect_caught("wgmma_gemm: no barrier after making mbarriers", {Kind::kRace, Kind::kInstruction},
                wgmma_gemm<Fault::kMissingInitBarrier>, file);
  expect_caught("wgmma_gemm: a box at the wrong place", {}, wgmma_gemm<Fault::kBoxOffByOne>);
  expect_caught("wgmma_from_registers: no proxy fence", {Kind::kProxyFence},
                wgmma_from_registers<Fault::kMissingProxyFence>, file);
  expect_caught("wgmma_from_registers: no wait for the bulk copy", {Kind::kInFlight, Kind::kRace},
                wgmma_from_registers<Fault::kMissingProductWait>, file);

  expect_caught("relay: a wrong count", {Kind::kInstruction}, relay<Fault::kWrongBarrierCount>, "relay.cuh");
  expect_caught("relay: a wrong barrier", {Kind::kDeadlock, Kind::kRace, Kind::kDivergence}, relay<Fault::kWrongBarrierId>, "relay.cuh");
  expect_caught("relay: nobody says that a half is free", {Kind::kDeadlock, Kind::kDivergence}, relay<Fault::kMissingSecondBarrier>,
                "relay.cuh");
  expect_caught("relay: nothing holds the producers back", {Kind::kRace, Kind::kInstruction},
                relay<Fault::kMissingReuseBarrier>, "relay.cuh");

  expect_caught("dependent_pair: a read before the wait", {Kind::kRace}, dependent_pair<Fault::kReadBeforeWait>,
                "dependent.cuh");
  expect_caught("dependent_pair: a write before the wait", {Kind::kRace}, dependent_pair<Fault::kWriteBeforeWait>,
                "dependent.cuh");
  expect_caught("dependent_pair: no wait", {Kind::kRace}, dependent_pair<Fault::kMissingWait>, "dependent.cuh");
  return harness::finish("hopper_test");
}
