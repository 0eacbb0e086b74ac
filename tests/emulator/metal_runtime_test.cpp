// metal/runtime over the fake of Metal (tests/metal_runtime): copies, frees, streams, events and graphs wait for what they
// must, and of Metal's objects nothing is kept too long or given back too often.
//
// With FAKE_METAL_WAITS the fake runs a command buffer when somebody waits for it and not before, so that what was not
// waited for is not there; without, also when chance wants it. All cases run in both worlds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "gpu_vector.h"
#include "harness.h"
#include "metal_runtime/metal.h"

namespace {

using namespace gptoss;
using Memory = harness::GpuVector<float>;

constexpr int kSize = 64;
constexpr size_t kBytes = kSize * sizeof(float);
constexpr auto kToDevice = metalMemcpyHostToDevice, kToHost = metalMemcpyDeviceToHost, kInside = metalMemcpyDeviceToDevice;

std::vector<float> numbers(float first) {
  std::vector<float> values(kSize);
  for (int i = 0; i < kSize; ++i) values[i] = first + static_cast<float>(i);
  return values;
}

int wrong = 0;  // of the case that runs
void expect(bool good, const char* what) {
  if (good) return;
  ++wrong;
  std::printf("  not so: %s\n", what);
}
void good(metalError_t error) { expect(error == metalSuccess, metalGetErrorString(error)); }
void refused(metalError_t error, const char* words) {
  expect(error != metalSuccess && std::strstr(metalGetErrorString(error), words) != nullptr, words);
}

struct Stream {
  Stream() { good(metalStreamCreateWithFlags(&stream, metalStreamNonBlocking)); }
  ~Stream() {
    if (stream) good(metalStreamDestroy(stream));
  }
  operator metalStream_t() const { return stream; }
  metalStream_t stream = nullptr;
};
struct Event {
  Event() { good(metalEventCreate(&event)); }
  ~Event() { good(metalEventDestroy(event)); }
  operator metalEvent_t() const { return event; }
  metalEvent_t event = nullptr;
};

std::vector<float> to_host(const float* from, metalStream_t stream) {
  std::vector<float> values(kSize, NAN);
  good(metalMemcpyAsync(values.data(), from, kBytes, kToHost, stream));
  return values;
}
bool holds(Memory& memory, float first) {
  Stream other;  // which has nothing to wait for
  return to_host(memory.data(), other) == numbers(first);
}

// Kernels: to = from, and to += from.
struct Kernels {
  harness::GpuVector<LiveCounts> live{std::vector<LiveCounts>{{1, 1, 1}}};
  Memory one{std::vector<float>{1}};
  void copy(float* to, const float* from, metalStream_t stream) {
    const RoundArgs a{.count = &live.data()->tokens, .x = from, .out = {.values = to, .terms = nullptr, .size = kSize, .count = 0, .round = false}};
    good(metalLaunch("round_rows", dim3(1), dim3(kSize), 0, &a, sizeof a, stream));
  }
  void add(float* to, const float* from, metalStream_t stream) {
    const CombineArgs a{.live = live.data(), .y = from, .weight = one.data(), .residual = to, .size = kSize, .chosen = 1};
    good(metalLaunch("moe_combine", dim3(1), dim3(kSize), 0, &a, sizeof a, stream));
  }
};

// --- Cases

void copies_wait_for_what_the_stream_does() {
  Kernels k;
  Stream s;
  Memory from(numbers(1)), to(numbers(0));
  k.copy(to.data(), from.data(), s);
  expect(to_host(to.data(), s) == numbers(1), "what a kernel wrote reaches the host");
  k.copy(to.data(), from.data(), s);
  good(metalMemcpyAsync(from.data(), numbers(5).data(), kBytes, kToDevice, s));
  good(metalStreamSynchronize(s));
  expect(holds(to, 1) && holds(from, 5), "the host's numbers come after what the kernel read");
}

void copies_inside_the_device_keep_their_place() {
  Kernels k;
  Stream s;
  Event submitted;
  Memory a(numbers(1)), b(numbers(0)), c(numbers(0)), d(numbers(7));
  good(metalMemcpyAsync(d.data(), c.data(), kBytes, kInside, s));  // of an idle stream
  expect(holds(d, 0), "a copy in an idle stream");
  k.copy(b.data(), a.data(), s);
  good(metalEventRecord(submitted, s));  // on its way, and nothing is open
  good(metalMemcpyAsync(c.data(), b.data(), kBytes, kInside, s));
  k.copy(d.data(), c.data(), s);
  good(metalMemsetAsync(c.data(), 0, kBytes, s));
  good(metalStreamSynchronize(s));
  expect(holds(d, 1), "a copy is behind the kernel that writes, and before the one that reads");
  expect(to_host(c.data(), s) == std::vector<float>(kSize, 0), "what was filled last");
  k.copy(b.data(), d.data(), s);
  good(metalEventRecord(submitted, s));
  good(metalMemsetAsync(d.data(), 0, kBytes, s));
  good(metalMemcpyAsync(c.data() + 3, b.data() + 1, 8, kInside, s));
  good(metalStreamSynchronize(s));
  expect(holds(b, 1), "memory is filled behind the kernel that reads it");
  expect(c.host()[3] == numbers(1)[1] && c.host()[4] == numbers(1)[2] && c.host()[5] == 0, "a part of what the kernel wrote");
  std::vector<float> columns(kSize);
  good(metalMemcpy2DAsync(columns.data(), 8, b.data() + 1, 16, 8, 4, kToHost, s));
  const std::vector<float> all = numbers(1);
  expect(columns[0] == all[1] && columns[1] == all[2] && columns[2] == all[5] && columns[7] == all[14], "rows of a matrix");
}

void a_stream_waits_for_another_ones_event() {
  Kernels k;
  Stream first, second;
  Event written;
  Memory a(numbers(1)), b(numbers(0));
  k.copy(b.data(), a.data(), first);
  good(metalEventRecord(written, first));
  good(metalStreamWaitEvent(second, written));
  expect(to_host(b.data(), second) == numbers(1), "what the other stream wrote");
}

void events_say_what_is_done() {
  Kernels k;
  Stream s;
  Event nothing, start, middle, end;
  Memory a(numbers(1)), b(numbers(0));
  expect(metalEventQuery(nothing) == metalSuccess, "an event that was never recorded");
  good(metalEventRecord(start, s));
  expect(metalEventQuery(start) == metalSuccess, "nothing was before it");
  k.copy(b.data(), a.data(), s);
  good(metalEventRecord(middle, s));
  if (std::getenv("FAKE_METAL_WAITS")) expect(metalEventQuery(middle) == metalErrorNotReady, "a kernel that has not run");
  good(metalEventSynchronize(middle));
  expect(metalEventQuery(middle) == metalSuccess && holds(b, 1), "a kernel that was waited for");
  for (int i = 0; i < 2; ++i) {
    k.add(b.data(), a.data(), s);
    good(metalEventRecord(end, s));
  }
  float before = 0, between = 0;
  good(metalEventElapsedTime(&between, middle, end));
  good(metalEventElapsedTime(&before, start, end));
  expect(std::abs(between - 2) < 1e-3f && std::abs(before - 3) < 1e-3f, "a command buffer of the fake takes a millisecond");
}

void memory_is_freed_when_nobody_uses_it() {
  Kernels k;
  Stream s;
  Event submitted;
  Memory b(numbers(0)), c(numbers(0));
  float* a = nullptr;
  good(metalMalloc(&a, kBytes));
  good(metalMemcpyAsync(a, numbers(1).data(), kBytes, kToDevice, s));
  const size_t page = static_cast<size_t>(getpagesize());
  void* const host = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::memcpy(host, numbers(3).data(), kBytes);
  void* mapped = nullptr;
  good(metalMapHost(&mapped, host, page));
  k.copy(b.data(), a, s);
  k.copy(c.data(), static_cast<const float*>(mapped), s);
  good(metalEventRecord(submitted, s));
  size_t free = 0, total = 0, free_then = 0;
  good(metalMemGetInfo(&free, &total));
  good(metalFree(mapped));
  munmap(host, page);
  good(metalFree(a));
  good(metalMemGetInfo(&free_then, &total));
  expect(free_then == free + kBytes + page, "what was freed is free");
  good(metalStreamSynchronize(s));
  expect(holds(b, 1) && holds(c, 3), "what kernels read from memory that was freed behind them");
  k.copy(c.data(), b.data(), s);  // with what is left
  good(metalStreamSynchronize(s));
  expect(holds(c, 1), "memory that was not freed");
  refused(metalFree(a), "freed memory that the device does not have");
}

void a_stream_ends_when_its_work_has() {
  Kernels k;
  Memory a(numbers(1)), b(numbers(0));
  Event end;
  {
    Stream s;
    k.copy(b.data(), a.data(), s);
    good(metalEventRecord(end, s));
    k.copy(b.data(), a.data(), s);
  }
  expect(holds(b, 1), "what was put into the stream");
  expect(metalEventQuery(end) == metalSuccess, "an event of a stream that has ended");
  good(metalEventSynchronize(end));
}

void kernels_reach_memory_that_came_later() {
  Kernels k;
  Stream s;
  Memory a(numbers(1)), b(numbers(0));
  k.copy(b.data(), a.data(), s);  // the encoder is open
  Memory c(numbers(2)), d(numbers(0));
  k.copy(d.data(), c.data(), s);
  good(metalMemcpyAsync(c.data(), b.data(), kBytes, kInside, s));  // an encoder of another kind
  k.add(d.data(), c.data(), s);
  good(metalStreamSynchronize(s));
  k.add(b.data(), b.data(), s);  // another command buffer
  good(metalStreamSynchronize(s));
  std::vector<float> twice = numbers(1), sum = numbers(1);
  for (int i = 0; i < kSize; ++i) twice[i] *= 2, sum[i] += numbers(2)[i];
  expect(to_host(b.data(), s) == twice && to_host(d.data(), s) == sum, "numbers of both kernels");
}

void graphs_are_run_when_they_are_launched() {
  Kernels k;
  Stream s;
  Memory a(numbers(1)), b(numbers(0)), c(numbers(0));
  metalGraph_t graph = nullptr;
  metalGraphExec_t run = nullptr;
  good(metalStreamBeginCapture(s, metalStreamCaptureModeThreadLocal));
  k.add(b.data(), a.data(), s);
  good(metalMemcpyAsync(c.data(), b.data(), kBytes, kInside, s));
  refused(metalMemcpyAsync(b.data(), numbers(9).data(), kBytes, kToDevice, s), "cannot be captured");
  refused(metalMemcpyAsync(b.data(), numbers(9).data(), kBytes, kInside, s), "in none of the device's buffers");
  refused(metalMemsetAsync(numbers(9).data(), 0, kBytes, s), "in none of the device's buffers");
  refused(metalStreamBeginCapture(s, metalStreamCaptureModeThreadLocal), "capturing already");
  good(metalStreamEndCapture(s, &graph));
  refused(metalStreamEndCapture(s, &graph), "captures nothing");
  good(metalGraphInstantiateWithFlags(&run, graph, 0));
  good(metalGraphDestroy(graph));
  good(metalStreamSynchronize(s));
  expect(holds(b, 0) && holds(c, 0), "nothing is run while it is captured");
  const int commits = fake_metal::asked("commit");
  for (int i = 0; i < 2; ++i) good(metalGraphLaunch(run, s));
  good(metalStreamSynchronize(s));
  expect(fake_metal::asked("commit") == commits + 1, "both launches are one command buffer");
  std::vector<float> sum = numbers(0);
  for (int i = 0; i < kSize; ++i) sum[i] += 2 * numbers(1)[i];
  expect(to_host(b.data(), s) == sum && to_host(c.data(), s) == sum, "both launches have run");
  good(metalGraphExecDestroy(run));
}

void what_cannot_be_is_refused() {
  Kernels k;
  Stream s;
  Memory a(numbers(1)), b(numbers(2)), wide(2 * kSize);
  std::vector<float> two(2 * kSize);
  refused(metalLaunch("no_such_kernel", dim3(1), dim3(32), 0, nullptr, 0, s), "has no kernel no_such_kernel");
  refused(metalLaunch("round_rows", dim3(1), dim3(32), 0, std::vector<char>(5000).data(), 5000, s), "setBytes takes 4096");
  refused(metalLaunch("round_rows", dim3(1), dim3(1024), 0, two.data(), sizeof(RoundArgs), s), "of which this GPU allows 256");
  refused(metalLaunch("round_rows", dim3(1), dim3(32, 4, 4), 0, two.data(), sizeof(RoundArgs), s), "of which this GPU allows 256");
  refused(metalLaunch("round_rows", dim3(1), dim3(32), 32769, two.data(), sizeof(RoundArgs), s), "of which this GPU has 32768");
  refused(metalMemcpyAsync(two.data(), a.data(), 2 * kBytes, kToHost, s), "in none of the device's buffers");
  refused(metalMemcpyAsync(wide.data(), a.data(), 2 * kBytes, kInside, s), "in none of the device's buffers");
  refused(metalMemsetAsync(two.data(), 0, kBytes, s), "in none of the device's buffers");
  void* much = nullptr;
  good(metalMapHost(&much, nullptr, size_t{1} << 40));
  expect(much == nullptr, "so much of the host's memory is not mapped");
  refused(metalMallocBytes(&much, size_t{1} << 40), "no buffer of this size");
  expect(metalGetLastError() == metalErrorMemoryAllocation && metalGetLastError() == metalSuccess, "an error is told once");
  setenv("FAKE_METAL_FAILS", "run", 1);
  k.copy(b.data(), a.data(), s);
  refused(metalStreamSynchronize(s), "Caused GPU Hang Error");
  k.copy(b.data(), a.data(), s);
  Event failed;
  good(metalEventRecord(failed, s));
  { const Memory freed(1); }  // which waits for all that runs
  refused(metalEventQuery(failed), "Caused GPU Hang Error");
  unsetenv("FAKE_METAL_FAILS");
  expect(holds(b, 2), "a command buffer that failed");
  k.copy(b.data(), a.data(), s);
  good(metalStreamSynchronize(s));
  expect(holds(b, 1), "a stream goes on after a failure");
}

void run(const char* name, void (*body)()) {
  harness::expect_clean(name, [body] {
    wrong = 0;
    body();
    return wrong == 0 ? 0.0 : 2.0;
  }, 1);
}

// What is left when all memory, streams and events are gone: the device, its queue, the program and two kernels, and of
// each one reference; the fake has one of the device, too.
double what_is_left() {
  wrong = 0;
  const std::map<std::string, fake_metal::Owned> wanted{{"MTLDevice", {1, 2}}, {"MTLCommandQueue", {1, 1}}, {"MTLLibrary", {1, 1}}, {"MTLComputePipelineState", {2, 2}}};
  const auto owned = fake_metal::owned();
  for (const auto& [type, of] : owned)
    if (!wanted.count(type) || wanted.at(type).objects != of.objects || wanted.at(type).references != of.references)
      expect(false, (type + ": " + std::to_string(of.objects) + " objects, " + std::to_string(of.references) + " references").c_str());
  expect(owned.size() == wanted.size(), "all of these are there");
  expect(fake_metal::asked("compile") == 1, "the program is compiled once");
  expect(fake_metal::asked("pipeline") == 2, "a kernel is compiled once");
  return wrong == 0 ? 0.0 : 2.0;
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (const bool waits : {true, false}) {
    if (waits)
      setenv("FAKE_METAL_WAITS", "1", 1);
    else
      unsetenv("FAKE_METAL_WAITS");
    run("copies wait for what the stream does", copies_wait_for_what_the_stream_does);
    run("copies inside the device keep their place", copies_inside_the_device_keep_their_place);
    run("a stream waits for another one's event", a_stream_waits_for_another_ones_event);
    run("events say what is done", events_say_what_is_done);
    run("memory is freed when nobody uses it", memory_is_freed_when_nobody_uses_it);
    run("a stream ends when its work has", a_stream_ends_when_its_work_has);
    run("kernels reach memory that came later", kernels_reach_memory_that_came_later);
    run("graphs are run when they are launched", graphs_are_run_when_they_are_launched);
    run("what cannot be is refused", what_cannot_be_is_refused);
  }
  harness::expect_clean("what is left", what_is_left, 1);
  return harness::finish("metal_runtime_test");
}
