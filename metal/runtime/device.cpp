#include "device.h"

#include <algorithm>
#include <stdexcept>

#include "metal_program.h"
#include "stream.h"

namespace gptoss::metal {
namespace {

thread_local int selected = 0;

NS::String* string_of(const char* text) { return NS::String::string(text, NS::UTF8StringEncoding); }

std::vector<std::unique_ptr<Device>> find_devices() {
  const Pool pool;
  std::vector<std::unique_ptr<Device>> devices;
  NS::Array* const all = MTL::CopyAllDevices();
  for (NS::UInteger i = 0; all && i < all->count(); ++i) {
    auto* const device = all->object<MTL::Device>(i);
    if (device->supportsFamily(MTL::GPUFamilyApple7)) devices.push_back(std::make_unique<Device>(device));
  }
  if (all) all->release();
  return devices;
}

}  // namespace

std::string text_of(NS::Error* error) {
  return error ? error->localizedDescription()->utf8String() : "Metal gives no reason";
}

const std::vector<std::unique_ptr<Device>>& Device::all() {
  // Never destroyed: at the end of a process Metal may be gone before them.
  static const auto* const devices = new std::vector<std::unique_ptr<Device>>(find_devices());
  return *devices;
}

Device& Device::current() { return *all().at(static_cast<size_t>(selected)); }
void Device::select(int index) { selected = index; }

Device::Device(MTL::Device* device) : device_(device->retain()), queue_(device->newCommandQueue()) {
  own_stream_ = std::make_unique<Stream>(*this);
}

// --- Buffers

void* Device::keep(MTL::Buffer* buffer, bool read_only) {
  const std::lock_guard lock(mutex_);
  buffers_[buffer->gpuAddress()] = {buffer, read_only};
  ++generation_;
  return reinterpret_cast<void*>(buffer->gpuAddress());
}

void* Device::allocate(size_t bytes) {
  if (bytes > device_->maxBufferLength()) return nullptr;
  MTL::Buffer* const buffer = device_->newBuffer(bytes, MTL::ResourceStorageModeShared);
  return buffer ? keep(buffer, false) : nullptr;
}

void* Device::map(const void* host, size_t bytes) {
  if (bytes > device_->maxBufferLength()) return nullptr;
  MTL::Buffer* const buffer =
      device_->newBuffer(const_cast<void*>(host), bytes, MTL::ResourceStorageModeShared, nullptr);
  return buffer ? keep(buffer, true) : nullptr;
}

void Device::release(void* pointer) {
  const Pool pool;
  std::vector<MTL::CommandBuffer*> running;
  {
    const std::lock_guard lock(mutex_);  // no stream ends meanwhile
    for (Stream* stream : streams_) stream->append_submitted(running);
  }
  for (MTL::CommandBuffer* one : running) {  // it may still use the memory
    one->waitUntilCompleted();
    one->release();
  }
  const std::lock_guard lock(mutex_);
  const auto found = buffers_.find(reinterpret_cast<uint64_t>(pointer));
  if (found == buffers_.end()) throw std::runtime_error("freed memory that the device does not have");
  found->second.buffer->release();
  buffers_.erase(found);
  ++generation_;
}

Place Device::find(const void* pointer, size_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto address = reinterpret_cast<uint64_t>(pointer);
  auto after = buffers_.upper_bound(address);
  if (after != buffers_.begin()) {
    const auto& [begin, held] = *--after;
    if (address - begin + bytes <= held.buffer->length()) return {held.buffer, address - begin};
  }
  throw std::runtime_error("an address that is in none of the device's buffers");
}

uint64_t Device::use_buffers(MTL::ComputeCommandEncoder* encoder, uint64_t generation) {
  const std::lock_guard lock(mutex_);
  if (generation == generation_) return generation;
  if (listed_ != generation_) {
    written_.clear();
    read_.clear();
    for (const auto& [address, held] : buffers_) (held.read_only ? read_ : written_).push_back(held.buffer);
    listed_ = generation_;
  }
  if (!read_.empty()) encoder->useResources(read_.data(), read_.size(), MTL::ResourceUsageRead);
  if (!written_.empty())
    encoder->useResources(written_.data(), written_.size(), MTL::ResourceUsageRead | MTL::ResourceUsageWrite);
  return generation_;
}

// --- The program

void Device::compile() {
  const Pool pool;
  MTL::CompileOptions* const options = MTL::CompileOptions::alloc()->init();
  options->setLanguageVersion(MTL::LanguageVersion3_1);
  options->setFastMathEnabled(false);
  NS::Error* error = nullptr;
  library_ = device_->newLibrary(string_of(kProgram), options, &error);
  options->release();
  if (!library_) throw std::runtime_error("Metal does not compile the kernels: " + text_of(error));
}

MTL::ComputePipelineState* Device::pipeline(const std::string& kernel) {
  const std::lock_guard lock(mutex_);
  const auto known = pipelines_.find(kernel);
  if (known != pipelines_.end()) return known->second;
  if (!library_) compile();
  const Pool pool;
  MTL::Function* const function = library_->newFunction(string_of(kernel.c_str()));
  if (!function) throw std::runtime_error("the program has no kernel " + kernel);
  NS::Error* error = nullptr;
  MTL::ComputePipelineState* const pipeline = device_->newComputePipelineState(function, &error);
  function->release();
  if (!pipeline) throw std::runtime_error("Metal does not compile kernel " + kernel + ": " + text_of(error));
  if (pipeline->threadExecutionWidth() != 32) {
    pipeline->release();
    throw std::runtime_error("kernel " + kernel +
                             " runs in SIMD groups of another width than 32 on this GPU");
  }
  return pipelines_[kernel] = pipeline;
}

// --- Streams

void Device::add(Stream* stream) {
  const std::lock_guard lock(mutex_);
  streams_.push_back(stream);
}
void Device::remove(Stream* stream) {
  const std::lock_guard lock(mutex_);
  streams_.erase(std::remove(streams_.begin(), streams_.end(), stream), streams_.end());
}

}  // namespace gptoss::metal
