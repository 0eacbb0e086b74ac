// The host's side: memory, streams, events, graphs, and what the device refuses.
#include "core/device_memory.h"
#include "gpu_vector.h"
#include "harness.h"
#include "kernels/decode.cuh"

namespace {

using emulator::Kind;
using gptoss::simt::launch;
using harness::check;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;

// --- Graphs: five steps of the toy decoder, replayed.

template <Fault kFault>
double decode_by_graph() {
  constexpr int kSteps = 5;
  const std::vector<float> x = harness::normal_numbers(kSteps, 1);
  std::vector<double> expected(kSteps);
  for (int i = 0; i < kSteps; ++i) expected[i] = x[i] + (i == 0 ? 0 : expected[i - 1]);
  GpuVector<float> in(x), cache(kSteps), out(kSteps);
  GpuVector<int> position(std::vector<int>(1, 0));
  cudaStream_t stream;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable;
  (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  (void)launch(kernels::append<kFault>, {.grid = 1, .block = 32, .stream = stream}, in.data(), cache.data(),
               position.data(), 0);
  (void)launch(kernels::sum_cache<kFault>, {.grid = 1, .block = 32, .stream = stream, .programmatic = false},
               cache.data(), out.data(), position.data(), 0);
  (void)launch(kernels::advance, {.grid = 1, .block = 32, .stream = stream}, position.data());
  if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) return 1e30;
  (void)cudaGraphInstantiate(&executable, graph);
  for (int step = 0; step < kSteps; ++step) (void)cudaGraphLaunch(executable, stream);
  (void)cudaStreamSynchronize(stream);
  (void)cudaGraphExecDestroy(executable);
  (void)cudaGraphDestroy(graph);
  (void)cudaStreamDestroy(stream);
  return harness::worst(out.host(), expected, 1e-5);
}

// --- Two streams: the second goes on from what the first made. In a graph as well, where an event joins them.

template <Fault kFault>
double two_streams(bool captured) {
  constexpr int kCount = 100;
  const std::vector<float> x = harness::normal_numbers(kCount, 2);
  std::vector<double> expected(kCount);
  for (int i = 0; i < kCount; ++i) expected[i] = x[i] + 2;
  GpuVector<float> in(x), middle(kCount), out(kCount);
  cudaStream_t first, second;
  cudaEvent_t forked, made, joined;
  (void)cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
  (void)cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
  for (cudaEvent_t* event : {&forked, &made, &joined}) (void)cudaEventCreateWithFlags(event, cudaEventDisableTiming);
  if (captured) (void)cudaStreamBeginCapture(first, cudaStreamCaptureModeGlobal);
  (void)cudaEventRecord(forked, first);
  (void)cudaStreamWaitEvent(second, forked);
  (void)launch(kernels::add_one, {.grid = 1, .block = 32, .stream = first}, in.data(), middle.data(), kCount);
  (void)cudaEventRecord(made, first);
  if (kFault != Fault::kMissingEventWait) (void)cudaStreamWaitEvent(second, made);
  (void)launch(kernels::add_one, {.grid = 1, .block = 32, .stream = second}, middle.data(), out.data(), kCount);
  (void)cudaEventRecord(joined, second);
  (void)cudaStreamWaitEvent(first, joined);
  if (captured) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable;
    if (cudaStreamEndCapture(first, &graph) != cudaSuccess) return 1e30;
    (void)cudaGraphInstantiate(&executable, graph);
    (void)cudaGraphLaunch(executable, first);
    (void)cudaStreamSynchronize(first);
    (void)cudaGraphExecDestroy(executable);
    (void)cudaGraphDestroy(graph);
  }
  (void)cudaStreamSynchronize(first);
  for (cudaEvent_t event : {forked, made, joined}) (void)cudaEventDestroy(event);
  (void)cudaStreamDestroy(first);
  (void)cudaStreamDestroy(second);
  return harness::worst(out.host(), expected, 1e-6);
}

// --- Pinned memory, which copies reach while the host goes on.

template <Fault kFault>
double pinned_copies() {
  constexpr int kCount = 64;
  const std::vector<float> x = harness::normal_numbers(kCount, 3);
  std::vector<double> expected(kCount);
  for (int i = 0; i < kCount; ++i) expected[i] = x[i] + 1;
  float *sent, *received;
  (void)cudaMallocHost(&sent, kCount * sizeof(float));
  (void)cudaMallocHost(&received, kCount * sizeof(float));
  std::copy(x.begin(), x.end(), sent);
  GpuVector<float> in(kCount), out(kCount);
  cudaStream_t stream;
  (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  (void)cudaMemcpyAsync(in.data(), sent, kCount * sizeof(float), cudaMemcpyHostToDevice, stream);
  if (kFault == Fault::kMissingReuseBarrier) std::fill(sent, sent + kCount, 0.0f);  // it may not have been sent yet
  (void)launch(kernels::add_one, {.grid = 1, .block = 32, .stream = stream}, in.data(), out.data(), kCount);
  (void)cudaMemcpyAsync(received, out.data(), kCount * sizeof(float), cudaMemcpyDeviceToHost, stream);
  if (kFault != Fault::kMissingSynchronize) (void)cudaStreamSynchronize(stream);
  const double error = harness::worst(std::vector<float>(received, received + kCount), expected, 1e-6);
  (void)cudaStreamDestroy(stream);
  (void)cudaFreeHost(sent);
  (void)cudaFreeHost(received);
  return error;
}

// --- What is refused, and how.

void memory() {
  emulator::set_memory_total(1000);
  void *a = nullptr, *b = nullptr;
  check(cudaMalloc(&a, 800) == cudaSuccess, "800 of 1000 bytes");
  check(cudaMalloc(&b, 300) == cudaErrorMemoryAllocation, "300 of the 200 that are left");
  check(cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess, "an error is told once");
  size_t free = 0, total = 0;
  (void)cudaMemGetInfo(&free, &total);
  check(free == 200 && total == 1000, "what is free");
  check(cudaFree(a) == cudaSuccess && cudaMalloc(&b, 1000) == cudaSuccess, "all of it, after freeing");
  check(cudaFree(a) == cudaErrorInvalidValue, "freed twice");
  (void)cudaGetLastError();
  std::vector<unsigned char> bytes(1000);
  check(cudaMemcpy(bytes.data(), b, 1001, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue, "a copy beyond the end");
  check(cudaMemcpy(b, bytes.data(), 1000, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue, "a copy the wrong way");
  check(cudaMemcpy(bytes.data(), b, 1000, cudaMemcpyDefault) == cudaSuccess && bytes[999] == 0xff, "poisoned memory");
  (void)cudaFree(b);
  (void)cudaGetLastError();
  emulator::set_memory_total(size_t{1} << 30);
}

void launches() {
  emulator::print_faults(false);
  GpuVector<float> x(std::vector<float>(4, 1.0f)), y(4);
  const auto launched = [&](gptoss::simt::LaunchConfig config) {
    return launch(kernels::add_one, config, x.data(), y.data(), 4);
  };
  check(launched({.grid = 1, .block = 1025}) == cudaErrorInvalidConfiguration, "1025 threads");
  check(launched({.grid = 0, .block = 32}) == cudaErrorInvalidConfiguration, "no blocks");
  check(launched({.grid = 1, .block = 32, .dynamic_shared = 50000}) == cudaErrorInvalidValue, "50000 bytes, not asked for");
  (void)gptoss::simt::allow_dynamic_shared(kernels::add_one, 60000);
  check(launched({.grid = 1, .block = 32, .dynamic_shared = 50000}) == cudaSuccess, "50000 bytes, asked for");
  check(gptoss::simt::allow_dynamic_shared(kernels::add_one, 300000) == cudaErrorInvalidValue, "300000 bytes");
  (void)cudaDeviceSynchronize();
  (void)cudaGetLastError();
  emulator::take_faults();

  void* unused = nullptr;
  // A fault is sticky: everything fails until the device is reset.
  (void)launch(kernels::add_one, {.grid = 1, .block = 32}, x.data() + 100, y.data(), 4);
  check(cudaDeviceSynchronize() == cudaErrorLaunchFailure || !harness::kHooked, "a kernel's fault");
  check(cudaMalloc(&unused, 4) == cudaErrorLaunchFailure || !harness::kHooked, "and what comes after it");
  (void)cudaDeviceReset();
  check(cudaDeviceSynchronize() == cudaSuccess, "after a reset");
  emulator::take_faults();
  emulator::print_faults(true);
}

void captures() {
  cudaStream_t stream, other;
  cudaEvent_t forked;
  cudaGraph_t graph = nullptr;
  (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  (void)cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  (void)cudaEventCreate(&forked);
  void* memory = nullptr;
  (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  check(cudaMalloc(&memory, 4) == cudaErrorStreamCaptureUnsupported, "an allocation while capturing");
  check(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated, "spoils the capture");
  (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  check(cudaStreamSynchronize(stream) == cudaErrorStreamCaptureUnsupported, "a wait while capturing");
  check(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated, "spoils it too");

  GpuVector<float> x(std::vector<float>(4, 1.0f)), y(4);
  (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  (void)launch(kernels::add_one, {.grid = 1, .block = 32, .stream = stream}, x.data(), y.data(), 4);
  (void)cudaEventRecord(forked, stream);
  (void)cudaStreamWaitEvent(other, forked);
  (void)launch(kernels::add_one, {.grid = 1, .block = 32, .stream = other}, y.data(), x.data(), 4);
  check(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated, "a fork that does not come back");
  (void)cudaStreamDestroy(stream);
  (void)cudaStreamDestroy(other);
  (void)cudaEventDestroy(forked);
  (void)cudaGetLastError();
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  if (harness::only.empty()) {
    memory();
    if (harness::kHooked) launches();
    captures();
  }
  expect_clean("decode_by_graph", decode_by_graph<Fault::kNone>);
  expect_clean("two_streams", [] { return two_streams<Fault::kNone>(false); });
  expect_clean("two_streams in a graph", [] { return two_streams<Fault::kNone>(true); });
  expect_clean("pinned_copies", pinned_copies<Fault::kNone>);
  expect_caught("decode_by_graph: an argument that should be in device memory", {},
                decode_by_graph<Fault::kArgumentByValue>);
  expect_caught("two_streams: no wait for the event", {},
                [] { return two_streams<Fault::kMissingEventWait>(false); });
  expect_caught("two_streams in a graph: no wait for the event", {},
                [] { return two_streams<Fault::kMissingEventWait>(true); });
  expect_caught("pinned_copies: the host reads too early", {}, pinned_copies<Fault::kMissingSynchronize>);
  expect_caught("pinned_copies: the host writes too early", {}, pinned_copies<Fault::kMissingReuseBarrier>);
  check(emulator::living_allocations() == 0, "everything was freed");
  return harness::finish("host_test");
}
