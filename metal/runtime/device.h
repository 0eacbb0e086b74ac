// One GPU: its buffers by their addresses, its queue, and the program compiled for it.
#pragma once

#include <Foundation/Foundation.hpp>
#include <Metal/Metal.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "metal_runtime.h"

namespace gptoss::metal {

// Throws std::runtime_error where Metal says no; the calls of metal_runtime.h turn it into an error and keep the text.
struct Place {  // of a device pointer
  MTL::Buffer* buffer = nullptr;
  size_t offset = 0;
};

class Device {
 public:
  explicit Device(MTL::Device* device);
  Device(const Device&) = delete;

  static const std::vector<std::unique_ptr<Device>>& all();
  static Device& current();
  static void select(int index);  // of this thread

  MTL::Device* mtl() const { return device_; }
  MTL::CommandQueue* queue() const { return queue_; }
  Stream& own_stream() { return *own_stream_; }

  void* allocate(size_t bytes);               // null where there is not enough
  void* map(const void* host, size_t bytes);  // null where Metal does not take it
  void release(void* pointer);
  Place find(const void* pointer, size_t bytes);  // throws if these bytes are in no buffer

  // Makes all buffers resident for an encoder that has seen those of `generation`; returns the present one.
  uint64_t use_buffers(MTL::ComputeCommandEncoder* encoder, uint64_t generation);

  // Compiled on first use, with the program.
  MTL::ComputePipelineState* pipeline(const std::string& kernel);

  void add(Stream* stream);
  void remove(Stream* stream);

 private:
  void* keep(MTL::Buffer* buffer, bool read_only);
  void compile();

  MTL::Device* device_;
  MTL::CommandQueue* queue_;
  MTL::Library* library_ = nullptr;
  std::map<std::string, MTL::ComputePipelineState*> pipelines_;
  struct Held {
    MTL::Buffer* buffer;
    bool read_only;
  };
  std::map<uint64_t, Held> buffers_;            // by GPU address
  std::vector<MTL::Resource*> written_, read_;  // the same, for use_buffers()
  uint64_t generation_ = 1, listed_ = 0;
  std::vector<Stream*> streams_;
  std::unique_ptr<Stream> own_stream_;
  std::mutex mutex_;
};

// Objects that Metal returns without an owner live until this ends.
class Pool {
 public:
  Pool() : pool_(NS::AutoreleasePool::alloc()->init()) {}
  ~Pool() { pool_->release(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

 private:
  NS::AutoreleasePool* pool_;
};

std::string text_of(NS::Error* error);

}  // namespace gptoss::metal
