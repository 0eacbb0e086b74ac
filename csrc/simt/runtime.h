// The host's side of a GPU as the backend uses it: errors by name, owned memory, streams, events and graphs.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "port.cuh"

namespace gptoss::simt {

// Throws std::runtime_error: what was done, and what the runtime says of it.
void check(GPU(Error_t) status, const std::string& what);

// The environment's variable that makes every launch wait for its kernel, which is then named where it fails.
#if GPTOSS_METAL_DEVICE
inline constexpr char kLaunchBlocking[] = "METAL_LAUNCH_BLOCKING";
#elif GPTOSS_HIP_DEVICE
inline constexpr char kLaunchBlocking[] = "HIP_LAUNCH_BLOCKING";
#else
inline constexpr char kLaunchBlocking[] = "CUDA_LAUNCH_BLOCKING";
#endif

// Lanes of a warp of the current device. Host code asks: kWarp is that of the code that is being compiled, and one
// plug-in may hold kernels for waves of 32 and of 64.
int warp_size();

// A block of memory that one of the classes below owns: to move one is to exchange the blocks.
class MemoryBlock {
 public:
  MemoryBlock(MemoryBlock&& other) noexcept { *this = std::move(other); }
  MemoryBlock& operator=(MemoryBlock&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 protected:
  explicit MemoryBlock(size_t bytes = 0) : bytes_(bytes) {}
  ~MemoryBlock() = default;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// Device memory, asked for once. Throws std::runtime_error with figures where there is not enough.
class DeviceMemory : public MemoryBlock {
 public:
  DeviceMemory() = default;
  DeviceMemory(size_t bytes, const char* what);
  ~DeviceMemory();
  DeviceMemory(DeviceMemory&&) = default;
  DeviceMemory& operator=(DeviceMemory&&) = default;
};

// Whether a copy from or to PinnedMemory goes on while the host does other things; otherwise it waits for the stream.
#if GPTOSS_METAL_DEVICE
inline constexpr bool kCopiesAreAsynchronous = false;
#else
inline constexpr bool kCopiesAreAsynchronous = true;
#endif

// Host memory that the device copies from and to by itself.
class PinnedMemory : public MemoryBlock {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(size_t bytes);
  ~PinnedMemory();
  PinnedMemory(PinnedMemory&&) = default;
  PinnedMemory& operator=(PinnedMemory&&) = default;
};

// Hands out aligned pieces of one block, or only counts them: plan() and state() cannot disagree.
class Arena {
 public:
  explicit Arena(uint8_t* base) : base_(base) {}
  template <class T>
  void take(T*& pointer, size_t count) {
    pointer = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }
  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 256;  // what the runtime's own allocations have
  uint8_t* base_;
  size_t used_ = 0;
};

class Stream {
 public:
  Stream();                                                 // a new one, which ends with this object
  explicit Stream(GPU(Stream_t) other) : stream_(other) {}  // another's
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator GPU(Stream_t)() const { return stream_; }
  void wait() const;

 private:
  GPU(Stream_t) stream_ = nullptr;
  bool owned_ = false;
};

class Event {
 public:
  Event();
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(GPU(Stream_t) stream);
  bool done() const;  // throws what went wrong on the device
  void wait() const;

 private:
  GPU(Event_t) event_ = nullptr;
};

// What was captured from a stream, ready to be launched again.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept { *this = std::move(other); }
  Graph& operator=(Graph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }
  // Captures what `work` puts into the stream.
  template <class Work>
  static Graph capture(GPU(Stream_t) stream, const Work& work) {
    begin(stream);
    try {
      work();
    } catch (...) {
      abandon(stream);
      throw;
    }
    return end(stream);
  }
  void launch(GPU(Stream_t) stream) const;

 private:
  static void begin(GPU(Stream_t) stream);
  static void abandon(GPU(Stream_t) stream);
  static Graph end(GPU(Stream_t) stream);
  GPU(GraphExec_t) executable_ = nullptr;
};

}  // namespace gptoss::simt
