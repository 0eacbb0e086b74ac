// The calls of metal_runtime.h: nothing is thrown through them.
#include <cstdlib>
#include <stdexcept>

#include "stream.h"

namespace {

using gptoss::metal::Device;
using gptoss::metal::Event;
using gptoss::metal::Graph;
using gptoss::metal::Stream;

thread_local metalError_t last = metalSuccess;
thread_local std::string last_text;

metalError_t fail(metalError_t error, const std::string& text) {
  last = error;
  last_text = text;
  return error;
}

template <class Call>
metalError_t call(const Call& body, metalError_t otherwise = metalErrorInvalidValue) {
  try {
    return body();
  } catch (const std::exception& error) {
    return fail(otherwise, error.what());
  }
}

Stream& stream_of(metalStream_t stream) { return stream ? *stream : Device::current().own_stream(); }

}  // namespace

metalError_t metalGetDeviceCount(int* count) {
  return call([&] {
    *count = static_cast<int>(Device::all().size());
    return metalSuccess;
  });
}
metalError_t metalSetDevice(int index) {
  if (index < 0 || static_cast<size_t>(index) >= Device::all().size())
    return fail(metalErrorInvalidDevice, "there is no such GPU");
  Device::select(index);
  return metalSuccess;
}
metalError_t metalGetLastError() {
  const metalError_t error = last;
  last = metalSuccess;  // its text stays, for metalGetErrorString
  return error;
}
const char* metalGetErrorString(metalError_t error) {
  if (!last_text.empty()) return last_text.c_str();
  return error == metalSuccess ? "no error" : "an error of Metal";
}

// --- Memory

metalError_t metalMallocBytes(void** pointer, size_t bytes) {
  return call([&] {
    *pointer = Device::current().allocate(bytes);
    return *pointer ? metalSuccess : fail(metalErrorMemoryAllocation, "Metal makes no buffer of this size");
  });
}
metalError_t metalFree(void* pointer) {
  return call([&] {
    Device::current().release(pointer);
    return metalSuccess;
  });
}
metalError_t metalMapHost(void** pointer, const void* host, size_t bytes) {
  return call([&] {
    *pointer = Device::current().map(host, bytes);
    return metalSuccess;
  });
}
metalError_t metalMemGetInfo(size_t* free, size_t* total) {
  return call([&] {
    MTL::Device* const device = Device::current().mtl();
    *total = device->recommendedMaxWorkingSetSize();
    const size_t used = device->currentAllocatedSize();
    *free = used < *total ? *total - used : 0;
    return metalSuccess;
  });
}
metalError_t metalMemcpyAsync(void* to, const void* from, size_t bytes, metalMemcpyKind kind,
                              metalStream_t stream) {
  return call([&] {
    if (bytes > 0) stream_of(stream).copy(to, from, bytes, kind);
    return metalSuccess;
  });
}
metalError_t metalMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                size_t height, metalMemcpyKind kind, metalStream_t stream) {
  metalError_t error = metalSuccess;
  for (size_t row = 0; row < height && error == metalSuccess; ++row)
    error = metalMemcpyAsync(static_cast<char*>(to) + row * to_pitch,
                             static_cast<const char*>(from) + row * from_pitch, width, kind, stream);
  return error;
}
metalError_t metalMemsetAsync(void* to, int value, size_t bytes, metalStream_t stream) {
  return call([&] {
    if (bytes > 0) stream_of(stream).fill(to, value, bytes);
    return metalSuccess;
  });
}

// --- Streams and events

metalError_t metalStreamCreateWithFlags(metalStream_t* stream, unsigned) {
  return call([&] {
    *stream = new Stream(Device::current());
    return metalSuccess;
  });
}
metalError_t metalStreamDestroy(metalStream_t stream) {
  delete stream;
  return metalSuccess;
}
metalError_t metalStreamSynchronize(metalStream_t stream) {
  return call(
      [&] {
        stream_of(stream).wait();
        return metalSuccess;
      },
      metalErrorLaunchFailure);
}
// The host waits for it: two streams meet only where operands come from elsewhere.
metalError_t metalStreamWaitEvent(metalStream_t, metalEvent_t event, unsigned) {
  return metalEventSynchronize(event);
}

void metalStreamUseMatrixUnits(metalStream_t stream, bool use) { stream_of(stream).matrix_units = use; }
bool metalStreamUsesMatrixUnits(metalStream_t stream) { return stream_of(stream).matrix_units; }

metalError_t metalEventCreateWithFlags(metalEvent_t* event, unsigned) {
  *event = new Event;
  return metalSuccess;
}
metalError_t metalEventDestroy(metalEvent_t event) {
  delete event;
  return metalSuccess;
}
metalError_t metalEventRecord(metalEvent_t event, metalStream_t stream) {
  return call([&] {
    stream_of(stream).record(*event);
    return metalSuccess;
  });
}
metalError_t metalEventQuery(metalEvent_t event) {
  return call(
      [&] { return Stream::done(*event) ? metalSuccess : metalErrorNotReady; },
      metalErrorLaunchFailure);
}
metalError_t metalEventSynchronize(metalEvent_t event) {
  return call(
      [&] {
        Stream::wait(*event);
        return metalSuccess;
      },
      metalErrorLaunchFailure);
}
metalError_t metalEventElapsedTime(float* milliseconds, metalEvent_t start, metalEvent_t end) {
  const metalError_t error = metalEventSynchronize(end);
  const double begun = start->after ? start->after->busy : 0, ended = end->after ? end->after->busy : 0;
  *milliseconds = static_cast<float>((ended - begun) * 1e3);
  return error;
}

// --- Graphs

metalError_t metalStreamBeginCapture(metalStream_t stream, metalStreamCaptureMode) {
  return call(
      [&] {
        stream_of(stream).begin_capture();
        return metalSuccess;
      },
      metalErrorNotPermitted);
}
metalError_t metalStreamEndCapture(metalStream_t stream, metalGraph_t* graph) {
  return call(
      [&] {
        *graph = new Graph(stream_of(stream).end_capture());
        return metalSuccess;
      },
      metalErrorNotPermitted);
}
metalError_t metalGraphInstantiateWithFlags(metalGraphExec_t* executable, metalGraph_t graph,
                                            unsigned long long) {
  *executable = new Graph(*graph);
  return metalSuccess;
}
metalError_t metalGraphLaunch(metalGraphExec_t executable, metalStream_t stream) {
  return call([&] {
    stream_of(stream).replay(*executable);
    return metalSuccess;
  });
}
metalError_t metalGraphDestroy(metalGraph_t graph) {
  delete graph;
  return metalSuccess;
}
metalError_t metalGraphExecDestroy(metalGraphExec_t executable) { return metalGraphDestroy(executable); }

metalError_t metalLaunch(const char* kernel, dim3 grid, dim3 block, size_t threadgroup_bytes,
                         const void* arguments, size_t argument_bytes, metalStream_t stream) {
  return call(
      [&] {
        stream_of(stream).launch(kernel, grid, block, threadgroup_bytes, arguments, argument_bytes);
        return metalSuccess;
      },
      metalErrorLaunchFailure);
}
