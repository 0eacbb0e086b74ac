// The host's calls, under neutral names: cuda_runtime.h and hip_runtime.h give them the names of their worlds.
#pragma once

#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "stream.h"

namespace emulator {

// The numbers are those of both CUDA and HIP.
enum class Status : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kInvalidConfiguration = 9,
  kInvalidDevice = 101,
  kNotReady = 600,
  kLaunchOutOfResources = 701,
  kLaunchFailure = 719,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
};
const char* status_name(Status status);

enum class CopyKind { kHostToHost, kHostToDevice, kDeviceToHost, kDeviceToDevice, kDefault };

Status allocate_device(void** pointer, size_t bytes);
Status allocate_host(void** pointer, size_t bytes);
Status free_device(void* pointer);
Status free_host(void* pointer);
Status copy(void* to, const void* from, size_t bytes, CopyKind kind, Stream& stream, bool asynchronous);
Status fill(void* to, int value, size_t bytes, Stream& stream, bool asynchronous);
Status wait_for_stream(Stream& stream);
Status wait_for_device();
Status wait_for_event(const Event& event);
Status query(const Event& event);
void memory_info(size_t* free, size_t* total);
Status last_error(bool clear);
Status set_last_error(Status status);  // returns it

// CUDA: dynamic shared memory beyond 48 KiB has to be asked for, kernel by kernel. HIP: 64 KiB, and no more.
constexpr size_t kSharedMemory = 48 * 1024;
constexpr size_t kLocalDataShare = 64 * 1024;
constexpr size_t kSharedMemoryOptIn = 227 * 1024;
Status allow_dynamic_shared(const void* kernel, size_t bytes);

// Puts the launch in the stream's queue, or refuses it as the device would.
Status launch_kernel(Launch launch, Stream& stream);

// Calls the kernel with parameters that were copied when it was launched, once for each thread.
template <class... P>
struct Parameters {
  void (*kernel)(P...);
  std::tuple<std::remove_cv_t<P>...> values;
  static void enter(void* self) {
    auto* parameters = static_cast<Parameters*>(self);
    std::apply(parameters->kernel, parameters->values);
  }
};

template <class... P, class... A>
Launch make_launch(void (*kernel)(P...), Dim3 grid, Dim3 block, size_t dynamic_shared, int warp_size, A&&... arguments) {
  using Made = Parameters<P...>;
  Launch launch;
  launch.kernel = reinterpret_cast<const void*>(kernel);
  launch.grid = grid;
  launch.block = block;
  launch.dynamic_shared = dynamic_shared;
  launch.warp_size = warp_size;
  launch.shared_limit = kSharedMemory;
  launch.entry = &Made::enter;
  launch.parameters = std::shared_ptr<Made>(new Made{kernel, {static_cast<P>(std::forward<A>(arguments))...}});
  launch.parameter_bytes = sizeof(Made);
  return launch;
}

}  // namespace emulator
