#include "calls.h"

#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "../core/device_memory.h"
#include "../core/fault.h"

namespace emulator {
namespace {

Status last = Status::kSuccess;
std::map<const void*, size_t> allowed_shared;

Status fail(Status status) { return set_last_error(status); }

Status device_status() { return device_failed() ? fail(Status::kLaunchFailure) : Status::kSuccess; }

CopyKind actual_kind(const void* to, const void* from) {
  if (in_device_arena(to)) return in_device_arena(from) ? CopyKind::kDeviceToDevice : CopyKind::kHostToDevice;
  return in_device_arena(from) ? CopyKind::kDeviceToHost : CopyKind::kHostToHost;
}

bool is_pinned(const void* host) { return find_allocation(host) != nullptr; }

// A copy that the host does not wait for, from memory that it may change at once: the driver takes it first.
Work copy_of_pageable(void* to, const void* from, size_t bytes) {
  const auto* begin = static_cast<const char*>(from);
  auto staged = std::make_shared<std::vector<char>>(begin, begin + bytes);
  return {std::nullopt, [to, staged] {
            const DeviceOpen open;
            std::memcpy(to, staged->data(), staged->size());
          }};
}

Work plain_copy(void* to, const void* from, size_t bytes) {
  return {std::nullopt, [to, from, bytes] {
            const DeviceOpen open;
            std::memcpy(to, from, bytes);
          }};
}

}  // namespace

const char* status_name(Status status) {
  switch (status) {
    case Status::kSuccess: return "no error";
    case Status::kInvalidValue: return "invalid argument";
    case Status::kOutOfMemory: return "out of memory";
    case Status::kInvalidConfiguration: return "invalid configuration argument";
    case Status::kInvalidDevice: return "invalid device ordinal";
    case Status::kNotReady: return "device not ready";
    case Status::kLaunchOutOfResources: return "too many resources requested for launch";
    case Status::kLaunchFailure: return "unspecified launch failure";
    case Status::kCaptureUnsupported: return "operation not permitted when stream is capturing";
    case Status::kCaptureInvalidated: return "operation failed due to a previous error during capture";
  }
  return "unrecognized error code";
}

Status set_last_error(Status status) {
  if (status != Status::kSuccess) last = status;
  return status;
}

Status last_error(bool clear) {
  const Status status = device_failed() ? Status::kLaunchFailure : last;
  if (clear) last = Status::kSuccess;
  return status;
}

Status allocate_device(void** pointer, size_t bytes) {
  if (spoil_captures()) return fail(Status::kCaptureUnsupported);
  if (device_failed()) return device_status();
  *pointer = bytes == 0 ? nullptr : allocate_memory(bytes, Home::kDevice);
  return *pointer == nullptr && bytes != 0 ? fail(Status::kOutOfMemory) : Status::kSuccess;
}

Status allocate_host(void** pointer, size_t bytes) {
  if (spoil_captures()) return fail(Status::kCaptureUnsupported);
  *pointer = allocate_memory(bytes, Home::kPinnedHost);
  return Status::kSuccess;
}

void memory_info(size_t* free, size_t* total) {
  *free = memory_free();
  *total = memory_total();
}

Status free_device(void* pointer) {
  if (pointer == nullptr) return Status::kSuccess;
  if (spoil_captures()) return fail(Status::kCaptureUnsupported);
  synchronize_all();  // as cudaFree does
  return free_memory(pointer, Home::kDevice) ? device_status() : fail(Status::kInvalidValue);
}

Status free_host(void* pointer) {
  if (pointer == nullptr) return Status::kSuccess;
  synchronize_all();
  return free_memory(pointer, Home::kPinnedHost) ? Status::kSuccess : fail(Status::kInvalidValue);
}

Status copy(void* to, const void* from, size_t bytes, CopyKind kind, Stream& stream, bool asynchronous) {
  const CopyKind actual = actual_kind(to, from);
  if (kind != CopyKind::kDefault && kind != actual) return fail(Status::kInvalidValue);
  if (in_device_arena(to) && !is_allocated(to, bytes)) return fail(Status::kInvalidValue);
  if (in_device_arena(from) && !is_allocated(from, bytes)) return fail(Status::kInvalidValue);
  if (device_failed()) return device_status();
  if (!asynchronous && spoil_captures()) return fail(Status::kCaptureUnsupported);
  const bool capturing = is_capturing(stream);
  if (actual == CopyKind::kHostToDevice && !is_pinned(from) && !capturing) {
    enqueue(stream, copy_of_pageable(to, from, bytes));
  } else {
    enqueue(stream, plain_copy(to, from, bytes));
    // To pageable memory the driver copies before it returns.
    if (actual == CopyKind::kDeviceToHost && !is_pinned(to) && !capturing) asynchronous = false;
  }
  return asynchronous ? Status::kSuccess : wait_for_stream(stream);
}

Status fill(void* to, int value, size_t bytes, Stream& stream, bool asynchronous) {
  if (!is_allocated(to, bytes)) return fail(Status::kInvalidValue);
  if (device_failed()) return device_status();
  if (!asynchronous && spoil_captures()) return fail(Status::kCaptureUnsupported);
  enqueue(stream, {std::nullopt, [to, value, bytes] {
                     const DeviceOpen open;
                     std::memset(to, value, bytes);
                   }});
  return asynchronous ? Status::kSuccess : wait_for_stream(stream);
}

Status wait_for_stream(Stream& stream) {
  if (is_capturing(stream)) {
    spoil_captures();
    return fail(Status::kCaptureUnsupported);
  }
  synchronize(stream);
  return device_status();
}

Status wait_for_device() {
  if (spoil_captures()) return fail(Status::kCaptureUnsupported);
  synchronize_all();
  return device_status();
}

Status wait_for_event(const Event& event) {
  if (event.captured != nullptr) return fail(Status::kInvalidValue);
  synchronize(event.done);
  return device_status();
}

Status query(const Event& event) {
  if (event.captured != nullptr) return fail(Status::kInvalidValue);
  return is_done(event) ? device_status() : Status::kNotReady;
}

Status allow_dynamic_shared(const void* kernel, size_t bytes) {
  if (bytes > kSharedMemoryOptIn) return fail(Status::kInvalidValue);
  allowed_shared[kernel] = bytes;
  return Status::kSuccess;
}

Status launch_kernel(Launch launch, Stream& stream) {
  const auto refuse = [&](Status status, const std::string& why) {
    note_fault(Kind::kLaunch, kernel_name(launch.kernel), "host", why);
    return fail(status);
  };
  const size_t threads = launch.block.count();
  if (threads == 0 || threads > kMaxThreads || launch.block.z > 64)
    return refuse(Status::kInvalidConfiguration, "a block of " + std::to_string(threads) + " threads");
  if (launch.grid.count() == 0 || launch.grid.y > 65535 || launch.grid.z > 65535)
    return refuse(Status::kInvalidConfiguration, "a grid of " + std::to_string(launch.grid.x) + " x " +
                                                     std::to_string(launch.grid.y) + " x " +
                                                     std::to_string(launch.grid.z) + " blocks");
  const auto allowed = allowed_shared.find(launch.kernel);
  const size_t limit = allowed == allowed_shared.end() ? launch.shared_limit : std::max(launch.shared_limit, allowed->second);
  if (launch.dynamic_shared > limit)
    return refuse(Status::kInvalidValue, std::to_string(launch.dynamic_shared) + " bytes of dynamic shared memory, " +
                                             std::to_string(limit) + " were allowed for this kernel");
  if (device_failed()) return device_status();
  enqueue(stream, {std::move(launch), {}});
  return Status::kSuccess;
}

}  // namespace emulator
