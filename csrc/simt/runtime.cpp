#include "runtime.h"

#include <stdexcept>

namespace gptoss::simt {

void check(GPU(Error_t) status, const std::string& what) {
  if (status == GPU(Success)) return;
  (void)GPU(GetLastError)();  // so that the next call does not report it again
  throw std::runtime_error(what + ": " + GPU(GetErrorString)(status));
}

int warp_size() {
#if GPTOSS_HIP_DEVICE
  int device = 0, lanes = 0;
  check(hipGetDevice(&device), "asking for the current device");
  check(hipDeviceGetAttribute(&lanes, hipDeviceAttributeWarpSize, device), "asking for the size of a wave");
  return lanes;
#else
  return kWarp;
#endif
}

DeviceMemory::DeviceMemory(size_t bytes, const char* what) : MemoryBlock(bytes) {
  if (bytes == 0) return;
  const GPU(Error_t) status = GPU(Malloc)(&data_, bytes);
  if (status == GPU(Success)) return;
  size_t free = 0, total = 0;
  (void)GPU(GetLastError)();
  (void)GPU(MemGetInfo)(&free, &total);
  data_ = nullptr;
  throw std::runtime_error("out of memory: the device refused " + std::to_string(bytes) + " bytes for the " + what +
                           " (" + std::to_string(free) + " of " + std::to_string(total) +
                           " are free): " + GPU(GetErrorString)(status));
}

DeviceMemory::~DeviceMemory() {
  if (data_) (void)GPU(Free)(data_);
}

#if GPTOSS_METAL_DEVICE
PinnedMemory::PinnedMemory(size_t) {}  // nothing would come of it
PinnedMemory::~PinnedMemory() = default;
#else
PinnedMemory::PinnedMemory(size_t bytes) : MemoryBlock(bytes) {
  if (bytes == 0) return;
#if GPTOSS_HIP_DEVICE
  const hipError_t status = hipHostMalloc(&data_, bytes, hipHostMallocDefault);
#else
  const cudaError_t status = cudaHostAlloc(&data_, bytes, cudaHostAllocDefault);
#endif
  if (status != GPU(Success)) data_ = nullptr;
  check(status, "asking for " + std::to_string(bytes) + " bytes of the host's memory that the device copies from and to");
}
PinnedMemory::~PinnedMemory() {
  if (data_ == nullptr) return;
#if GPTOSS_HIP_DEVICE
  (void)hipHostFree(data_);
#else
  (void)cudaFreeHost(data_);
#endif
}
#endif

Stream::Stream() : owned_(true) {
  check(GPU(StreamCreateWithFlags)(&stream_, GPU(StreamNonBlocking)), "creating a stream");
}
Stream::~Stream() {
  if (!owned_) return;
  (void)GPU(StreamSynchronize)(stream_);
  (void)GPU(StreamDestroy)(stream_);
}
void Stream::wait() const { check(GPU(StreamSynchronize)(stream_), "waiting for the device"); }

Event::Event() { check(GPU(EventCreateWithFlags)(&event_, GPU(EventDisableTiming)), "creating an event"); }
Event::~Event() { (void)GPU(EventDestroy)(event_); }
void Event::record(GPU(Stream_t) stream) { check(GPU(EventRecord)(event_, stream), "recording an event"); }
bool Event::done() const {
  const GPU(Error_t) status = GPU(EventQuery)(event_);
  if (status == GPU(ErrorNotReady)) {
    (void)GPU(GetLastError)();
    return false;
  }
  check(status, std::string("running on the device (a run with ") + kLaunchBlocking + "=1 names the kernel)");
  return true;
}

void Event::wait() const { check(GPU(EventSynchronize)(event_), "waiting for the device"); }

Graph::~Graph() {
  if (executable_) (void)GPU(GraphExecDestroy)(executable_);
}
// Thread-local: what other threads do at the same time, with other engines, is none of this capture's
// business.
void Graph::begin(GPU(Stream_t) stream) {
  check(GPU(StreamBeginCapture)(stream, GPU(StreamCaptureModeThreadLocal)), "beginning to capture a graph");
}
void Graph::abandon(GPU(Stream_t) stream) {
  GPU(Graph_t) graph = nullptr;
  (void)GPU(StreamEndCapture)(stream, &graph);
  if (graph) (void)GPU(GraphDestroy)(graph);
  (void)GPU(GetLastError)();
}
Graph Graph::end(GPU(Stream_t) stream) {
  GPU(Graph_t) graph = nullptr;
  check(GPU(StreamEndCapture)(stream, &graph), "capturing a graph");
  Graph result;
  const GPU(Error_t) status = GPU(GraphInstantiateWithFlags)(&result.executable_, graph, 0);
  (void)GPU(GraphDestroy)(graph);
  check(status, "making a graph executable");
  return result;
}
void Graph::launch(GPU(Stream_t) stream) const { check(GPU(GraphLaunch)(executable_, stream), "launching a graph"); }

}  // namespace gptoss::simt
