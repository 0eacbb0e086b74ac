// The host API of CUDA and of HIP: the same calls, but for the prefix of their names. Included by
// cuda_runtime.h and hip_runtime.h, which define GPU(name) as cuda##name or hip##name.

enum GPU(Error_t) {
  GPU(Success) = 0,
  GPU(ErrorInvalidValue) = 1,
  GPU(ErrorMemoryAllocation) = 2,
  GPU(ErrorInvalidConfiguration) = 9,
  GPU(ErrorInvalidDevice) = 101,
  GPU(ErrorNotReady) = 600,
  GPU(ErrorLaunchOutOfResources) = 701,
  GPU(ErrorLaunchFailure) = 719,
  GPU(ErrorStreamCaptureUnsupported) = 900,
  GPU(ErrorStreamCaptureInvalidated) = 901,
};
enum GPU(MemcpyKind) {
  GPU(MemcpyHostToHost),
  GPU(MemcpyHostToDevice),
  GPU(MemcpyDeviceToHost),
  GPU(MemcpyDeviceToDevice),
  GPU(MemcpyDefault),
};
enum GPU(StreamCaptureMode) {
  GPU(StreamCaptureModeGlobal),
  GPU(StreamCaptureModeThreadLocal),
  GPU(StreamCaptureModeRelaxed),
};
enum GPU(FuncAttribute) { GPU(FuncAttributeMaxDynamicSharedMemorySize) = 8 };

using GPU(Stream_t) = ::emulator::Stream*;
using GPU(Event_t) = ::emulator::Event*;
struct GPU(RecordedGraph) {
  std::shared_ptr<const ::emulator::Graph> graph;
};
using GPU(Graph_t) = GPU(RecordedGraph) *;
using GPU(GraphExec_t) = GPU(RecordedGraph) *;

constexpr unsigned GPU(StreamDefault) = 0;
constexpr unsigned GPU(StreamNonBlocking) = 1;
constexpr unsigned GPU(EventDefault) = 0;
constexpr unsigned GPU(EventDisableTiming) = 2;
constexpr unsigned GPU(HostAllocDefault) = 0;

inline GPU(Error_t) GPU(FromStatus)(::emulator::Status status) { return static_cast<GPU(Error_t)>(status); }
inline ::emulator::Stream& GPU(ToStream)(GPU(Stream_t) stream) {
  return stream == nullptr ? ::emulator::null_stream() : *stream;
}

// --- Devices

inline GPU(Error_t) GPU(GetDeviceCount)(int* count) {
  *count = 1;
  return GPU(Success);
}
inline GPU(Error_t) GPU(GetDevice)(int* device) {
  *device = 0;
  return GPU(Success);
}
inline GPU(Error_t) GPU(SetDevice)(int device) {
  return device == 0 ? GPU(Success) : GPU(ErrorInvalidDevice);
}
inline GPU(Error_t) GPU(DeviceSynchronize)() { return GPU(FromStatus)(::emulator::wait_for_device()); }
inline GPU(Error_t) GPU(DeviceReset)() {
  ::emulator::reset_device();
  ::emulator::last_error(true);
  return GPU(Success);
}
inline GPU(Error_t) GPU(GetLastError)() { return GPU(FromStatus)(::emulator::last_error(true)); }
inline GPU(Error_t) GPU(PeekAtLastError)() { return GPU(FromStatus)(::emulator::last_error(false)); }
inline const char* GPU(GetErrorString)(GPU(Error_t) error) {
  return ::emulator::status_name(static_cast<::emulator::Status>(error));
}
template <class Kernel>
GPU(Error_t)
GPU(FuncSetAttribute)(Kernel* kernel, GPU(FuncAttribute), int bytes) {
  return GPU(FromStatus)(
      ::emulator::allow_dynamic_shared(reinterpret_cast<const void*>(kernel), static_cast<size_t>(bytes)));
}

struct GPU(FuncAttributes) {};
inline GPU(Error_t) GPU(FuncGetAttributes)(GPU(FuncAttributes)*, const void*) { return GPU(Success); }  // all can be loaded

// --- Memory

template <class T>
GPU(Error_t)
GPU(Malloc)(T** pointer, size_t bytes) {
  return GPU(FromStatus)(::emulator::allocate_device(reinterpret_cast<void**>(pointer), bytes));
}
inline GPU(Error_t) GPU(Free)(void* pointer) { return GPU(FromStatus)(::emulator::free_device(pointer)); }
template <class T>
GPU(Error_t)
GPU(HostAlloc)(T** pointer, size_t bytes, unsigned = GPU(HostAllocDefault)) {
  return GPU(FromStatus)(::emulator::allocate_host(reinterpret_cast<void**>(pointer), bytes));
}
template <class T>
GPU(Error_t)
GPU(MallocHost)(T** pointer, size_t bytes) {
  return GPU(HostAlloc)(pointer, bytes);
}
inline GPU(Error_t) GPU(FreeHost)(void* pointer) { return GPU(FromStatus)(::emulator::free_host(pointer)); }
inline GPU(Error_t) GPU(MemGetInfo)(size_t* free, size_t* total) {
  ::emulator::memory_info(free, total);
  return GPU(Success);
}
inline GPU(Error_t) GPU(Memcpy)(void* to, const void* from, size_t bytes, GPU(MemcpyKind) kind) {
  return GPU(FromStatus)(::emulator::copy(to, from, bytes, static_cast<::emulator::CopyKind>(kind),
                                          ::emulator::null_stream(), false));
}
inline GPU(Error_t) GPU(MemcpyAsync)(void* to, const void* from, size_t bytes, GPU(MemcpyKind) kind,
                                     GPU(Stream_t) stream = nullptr) {
  return GPU(FromStatus)(::emulator::copy(to, from, bytes, static_cast<::emulator::CopyKind>(kind),
                                          GPU(ToStream)(stream), true));
}
inline GPU(Error_t) GPU(Memcpy2DAsync)(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                       size_t height, GPU(MemcpyKind) kind, GPU(Stream_t) stream = nullptr) {
  GPU(Error_t) status = GPU(Success);
  for (size_t row = 0; row < height && status == GPU(Success); ++row)
    status = GPU(MemcpyAsync)(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(from) + row * from_pitch,
                              width, kind, stream);
  return status;
}
inline GPU(Error_t) GPU(Memset)(void* to, int value, size_t bytes) {
  return GPU(FromStatus)(::emulator::fill(to, value, bytes, ::emulator::null_stream(), false));
}
inline GPU(Error_t) GPU(MemsetAsync)(void* to, int value, size_t bytes, GPU(Stream_t) stream = nullptr) {
  return GPU(FromStatus)(::emulator::fill(to, value, bytes, GPU(ToStream)(stream), true));
}

// --- Streams and events

inline GPU(Error_t) GPU(StreamCreateWithFlags)(GPU(Stream_t) * stream, unsigned flags) {
  *stream = ::emulator::create_stream(flags != GPU(StreamNonBlocking));
  return GPU(Success);
}
inline GPU(Error_t) GPU(StreamCreate)(GPU(Stream_t) * stream) {
  return GPU(StreamCreateWithFlags)(stream, GPU(StreamDefault));
}
inline GPU(Error_t) GPU(StreamDestroy)(GPU(Stream_t) stream) {
  ::emulator::destroy_stream(stream);
  return GPU(Success);
}
inline GPU(Error_t) GPU(StreamSynchronize)(GPU(Stream_t) stream) {
  return GPU(FromStatus)(::emulator::wait_for_stream(GPU(ToStream)(stream)));
}
inline GPU(Error_t) GPU(StreamWaitEvent)(GPU(Stream_t) stream, GPU(Event_t) event, unsigned = 0) {
  ::emulator::wait_event(GPU(ToStream)(stream), *event);
  return GPU(Success);
}
inline GPU(Error_t) GPU(EventCreateWithFlags)(GPU(Event_t) * event, unsigned) {
  *event = new ::emulator::Event;
  return GPU(Success);
}
inline GPU(Error_t) GPU(EventCreate)(GPU(Event_t) * event) { return GPU(EventCreateWithFlags)(event, 0); }
inline GPU(Error_t) GPU(EventDestroy)(GPU(Event_t) event) {
  delete event;
  return GPU(Success);
}
inline GPU(Error_t) GPU(EventRecord)(GPU(Event_t) event, GPU(Stream_t) stream = nullptr) {
  ::emulator::record(*event, GPU(ToStream)(stream));
  return GPU(Success);
}
inline GPU(Error_t) GPU(EventSynchronize)(GPU(Event_t) event) {
  return GPU(FromStatus)(::emulator::wait_for_event(*event));
}
inline GPU(Error_t) GPU(EventQuery)(GPU(Event_t) event) { return GPU(FromStatus)(::emulator::query(*event)); }
inline GPU(Error_t) GPU(EventElapsedTime)(float* milliseconds, GPU(Event_t), GPU(Event_t)) {
  *milliseconds = 1;  // the emulator has no clock
  return GPU(Success);
}

// --- Graphs

inline GPU(Error_t) GPU(StreamBeginCapture)(GPU(Stream_t) stream, GPU(StreamCaptureMode)) {
  if (stream == nullptr || ::emulator::is_capturing(*stream)) return GPU(ErrorStreamCaptureUnsupported);
  ::emulator::begin_capture(*stream);
  return GPU(Success);
}
inline GPU(Error_t) GPU(StreamEndCapture)(GPU(Stream_t) stream, GPU(Graph_t) * graph) {
  const std::shared_ptr<const ::emulator::Graph> recorded = ::emulator::end_capture(*stream);
  *graph = recorded ? new GPU(RecordedGraph){recorded} : nullptr;
  return GPU(FromStatus)(::emulator::set_last_error(recorded ? ::emulator::Status::kSuccess
                                                             : ::emulator::Status::kCaptureInvalidated));
}
inline GPU(Error_t)
    GPU(GraphInstantiateWithFlags)(GPU(GraphExec_t) * executable, GPU(Graph_t) graph, unsigned long long) {
  *executable = new GPU(RecordedGraph)(*graph);
  return GPU(Success);
}
inline GPU(Error_t)
    GPU(GraphInstantiate)(GPU(GraphExec_t) * executable, GPU(Graph_t) graph, unsigned long long flags = 0) {
  return GPU(GraphInstantiateWithFlags)(executable, graph, flags);
}
inline GPU(Error_t) GPU(GraphLaunch)(GPU(GraphExec_t) executable, GPU(Stream_t) stream) {
  if (::emulator::device_failed()) return GPU(ErrorLaunchFailure);
  ::emulator::replay(GPU(ToStream)(stream), executable->graph);
  return GPU(Success);
}
inline GPU(Error_t) GPU(GraphExecDestroy)(GPU(GraphExec_t) executable) {
  delete executable;
  return GPU(Success);
}
inline GPU(Error_t) GPU(GraphDestroy)(GPU(Graph_t) graph) {
  delete graph;
  return GPU(Success);
}
