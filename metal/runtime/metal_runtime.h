// What csrc/simt asks of a GPU's runtime, over Metal: the calls that CUDA and HIP have under the same names. Device
// pointers are GPU addresses of buffers; the host never reads through them.
//
// A stream collects its work in one command buffer, which is committed when an event is recorded or somebody waits: a
// step of the engine is one command buffer. Copies from and to the host wait for what the stream has in flight and are
// then plain copies: all buffers are shared memory. A graph is the list of its commands, encoded again each time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "args.h"

enum metalError_t {
  metalSuccess = 0,
  metalErrorInvalidValue,
  metalErrorMemoryAllocation,
  metalErrorInvalidDevice,
  metalErrorNotReady,
  metalErrorLaunchFailure,
  metalErrorNotPermitted,
};
enum metalMemcpyKind { metalMemcpyHostToDevice, metalMemcpyDeviceToHost, metalMemcpyDeviceToDevice };
enum metalStreamCaptureMode { metalStreamCaptureModeThreadLocal };
constexpr unsigned metalStreamNonBlocking = 1, metalEventDisableTiming = 2;

namespace gptoss::metal {
class Stream;
struct Event;
struct Graph;
}  // namespace gptoss::metal
using metalStream_t = gptoss::metal::Stream*;
using metalEvent_t = gptoss::metal::Event*;
using metalGraph_t = gptoss::metal::Graph*;
using metalGraphExec_t = gptoss::metal::Graph*;

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// --- Devices: GPUs of Apple's, in the system's order.

metalError_t metalGetDeviceCount(int* count);
metalError_t metalSetDevice(int index);  // of the calling thread
metalError_t metalGetLastError();
// What the last failure on this thread was, in Metal's own words where it has some.
const char* metalGetErrorString(metalError_t error);

// --- Memory

metalError_t metalMallocBytes(void** pointer, size_t bytes);
template <class T>
metalError_t metalMalloc(T** pointer, size_t bytes) {
  return metalMallocBytes(reinterpret_cast<void**>(pointer), bytes);
}
metalError_t metalFree(void* pointer);
// Lets the device read host memory where it lies, which must outlive it. It begins and ends at pages' bounds; null
// where Metal does not take it. Given back with metalFree.
metalError_t metalMapHost(void** pointer, const void* host, size_t bytes);
metalError_t metalMemGetInfo(size_t* free, size_t* total);

metalError_t metalMemcpyAsync(void* to, const void* from, size_t bytes, metalMemcpyKind kind,
                              metalStream_t stream = nullptr);
metalError_t metalMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                                size_t height, metalMemcpyKind kind, metalStream_t stream = nullptr);
inline metalError_t metalMemcpy(void* to, const void* from, size_t bytes, metalMemcpyKind kind) {
  return metalMemcpyAsync(to, from, bytes, kind);
}
metalError_t metalMemsetAsync(void* to, int value, size_t bytes, metalStream_t stream = nullptr);

// --- Streams, events, graphs. Without a stream: one of the device's own.

metalError_t metalStreamCreateWithFlags(metalStream_t* stream, unsigned flags);
metalError_t metalStreamDestroy(metalStream_t stream);
metalError_t metalStreamSynchronize(metalStream_t stream);
metalError_t metalStreamWaitEvent(metalStream_t stream, metalEvent_t event, unsigned flags = 0);
// Whether kernels that have a form for the matrix units are launched in it from now on; see metal_kernels.h.
void metalStreamUseMatrixUnits(metalStream_t stream, bool use);
bool metalStreamUsesMatrixUnits(metalStream_t stream);

metalError_t metalEventCreateWithFlags(metalEvent_t* event, unsigned flags);
inline metalError_t metalEventCreate(metalEvent_t* event) { return metalEventCreateWithFlags(event, 0); }
metalError_t metalEventDestroy(metalEvent_t event);
metalError_t metalEventRecord(metalEvent_t event, metalStream_t stream = nullptr);
metalError_t metalEventQuery(metalEvent_t event);
metalError_t metalEventSynchronize(metalEvent_t event);
// Of the time between them that in which the GPU ran command buffers.
metalError_t metalEventElapsedTime(float* milliseconds, metalEvent_t start, metalEvent_t end);

metalError_t metalStreamBeginCapture(metalStream_t stream, metalStreamCaptureMode mode);
metalError_t metalStreamEndCapture(metalStream_t stream, metalGraph_t* graph);
metalError_t metalGraphInstantiateWithFlags(metalGraphExec_t* executable, metalGraph_t graph,
                                            unsigned long long flags);
metalError_t metalGraphLaunch(metalGraphExec_t executable, metalStream_t stream);
metalError_t metalGraphDestroy(metalGraph_t graph);
metalError_t metalGraphExecDestroy(metalGraphExec_t executable);

// --- Kernels: by their name in the program, with one struct of arguments, which is copied.

metalError_t metalLaunch(const char* kernel, dim3 grid, dim3 block, size_t threadgroup_bytes,
                         const void* arguments, size_t argument_bytes, metalStream_t stream);
