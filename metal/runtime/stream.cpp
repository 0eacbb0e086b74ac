#include "stream.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace gptoss::metal {
namespace {

constexpr size_t kMostArgumentBytes = 4096;  // of setBytes

std::string size_text(dim3 size) {
  return std::to_string(size.x) + " x " + std::to_string(size.y) + " x " + std::to_string(size.z);
}

}  // namespace

Stream::Stream(Device& device) : device_(device) {
  const char* blocking = std::getenv("METAL_LAUNCH_BLOCKING");
  blocking_ = blocking && std::string(blocking) != "0";
  device_.add(this);
}

Stream::~Stream() {
  try {
    wait();
  } catch (const std::exception&) {
  }  // whoever waited for the step has seen it
  device_.remove(this);
}

// --- Commands

void Stream::put(Command command) {
  if (capture_)
    capture_->commands.push_back(std::move(command));
  else
    encode(command);
}

void Stream::launch(const char* kernel, dim3 grid, dim3 block, size_t threadgroup_bytes,
                    const void* arguments, size_t argument_bytes) {
  MTL::ComputePipelineState* const pipeline = device_.pipeline(kernel);
  const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
  if (threads > pipeline->maxTotalThreadsPerThreadgroup())
    throw std::runtime_error("threadgroups of " + size_text(block) + " threads, of which this GPU allows " +
                             std::to_string(pipeline->maxTotalThreadsPerThreadgroup()));
  const size_t padded = (threadgroup_bytes + 15) / 16 * 16;
  if (padded + pipeline->staticThreadgroupMemoryLength() > device_.mtl()->maxThreadgroupMemoryLength())
    throw std::runtime_error(std::to_string(padded) + " bytes of threadgroup memory, of which this GPU has " +
                             std::to_string(device_.mtl()->maxThreadgroupMemoryLength()));
  if (argument_bytes > kMostArgumentBytes)
    throw std::logic_error("arguments of " + std::to_string(argument_bytes) + " bytes; setBytes takes " +
                           std::to_string(kMostArgumentBytes));
  const char* const bytes = static_cast<const char*>(arguments);
  Command command(Command::kDispatch);
  command.pipeline = pipeline;
  command.grid = grid;
  command.block = block;
  command.threadgroup_bytes = padded;
  command.arguments.assign(bytes, bytes + argument_bytes);
  put(std::move(command));
  if (blocking_ && !capture_) wait();
}

void Stream::copy(void* to, const void* from, size_t bytes, metalMemcpyKind kind) {
  if (kind == metalMemcpyDeviceToDevice) {
    (void)device_.find(to, bytes);
    (void)device_.find(from, bytes);
    if (capture_ || !idle()) {
      Command command(Command::kCopy);
      command.to = to;
      command.from = from;
      command.bytes = bytes;
      return put(std::move(command));
    }
    std::memmove(host_pointer(to, bytes), host_pointer(from, bytes), bytes);
    return;
  }
  if (capture_) throw std::runtime_error("a copy from or to the host cannot be captured");
  wait();
  if (kind == metalMemcpyHostToDevice)
    std::memcpy(host_pointer(to, bytes), from, bytes);
  else
    std::memcpy(to, host_pointer(from, bytes), bytes);
}

void Stream::fill(void* to, int value, size_t bytes) {
  (void)device_.find(to, bytes);
  if (capture_ || !idle()) {
    Command command(Command::kFill);
    command.to = to;
    command.bytes = bytes;
    command.value = value;
    return put(std::move(command));
  }
  std::memset(host_pointer(to, bytes), value, bytes);
}

void Stream::replay(const Graph& graph) {
  for (const Command& command : graph.commands) put(command);
}

// --- Encoding

// Dispatches of one encoder run one after the other, each with all that those before it have written (its type is
// serial), and Metal orders the encoders and command buffers of a queue by the resources that they use.
MTL::ComputeCommandEncoder* Stream::compute() {
  if (compute_) return compute_;
  end_encoding();
  if (!open_) open_ = device_.queue()->commandBuffer()->retain();
  resident_ = 0;
  return compute_ = open_->computeCommandEncoder()->retain();
}

MTL::BlitCommandEncoder* Stream::blit() {
  if (blit_) return blit_;
  end_encoding();
  if (!open_) open_ = device_.queue()->commandBuffer()->retain();
  return blit_ = open_->blitCommandEncoder()->retain();
}

void Stream::end_encoding() {
  if (compute_) {
    compute_->endEncoding();
    compute_->release();
  }
  if (blit_) {
    blit_->endEncoding();
    blit_->release();
  }
  compute_ = nullptr;
  blit_ = nullptr;
}

void Stream::encode(const Command& command) {
  const Pool pool;
  if (command.kind == Command::kCopy) {
    const Place to = device_.find(command.to, command.bytes),
                from = device_.find(command.from, command.bytes);
    return blit()->copyFromBuffer(from.buffer, from.offset, to.buffer, to.offset, command.bytes);
  }
  if (command.kind == Command::kFill) {
    const Place to = device_.find(command.to, command.bytes);
    return blit()->fillBuffer(to.buffer, NS::Range(to.offset, command.bytes),
                              static_cast<uint8_t>(command.value));
  }
  MTL::ComputeCommandEncoder* const encoder = compute();
  resident_ = device_.use_buffers(encoder, resident_);
  encoder->setComputePipelineState(command.pipeline);
  encoder->setBytes(command.arguments.data(), command.arguments.size(), 0);
  if (command.threadgroup_bytes > 0) encoder->setThreadgroupMemoryLength(command.threadgroup_bytes, 0);
  encoder->dispatchThreadgroups(MTL::Size(command.grid.x, command.grid.y, command.grid.z),
                                MTL::Size(command.block.x, command.block.y, command.block.z));
}

void Stream::submit() {
  if (!open_) return;
  const Pool pool;
  end_encoding();
  open_->commit();
  last_ = std::make_shared<Submitted>();
  last_->buffer = open_;
  const std::lock_guard lock(in_flight_mutex_);
  in_flight_.push_back(last_);
  open_ = nullptr;
}

// --- Completion

void Stream::collect() {
  const std::lock_guard lock(in_flight_mutex_);
  while (!in_flight_.empty()) {
    Submitted& first = *in_flight_.front();
    const MTL::CommandBufferStatus status = first.buffer->status();
    if (status != MTL::CommandBufferStatusCompleted && status != MTL::CommandBufferStatusError) return;
    if (status == MTL::CommandBufferStatusError)
      first.error = text_of(first.buffer->error());
    else
      busy_ += first.buffer->GPUEndTime() - first.buffer->GPUStartTime();
    first.busy = busy_;
    first.buffer->release();
    first.buffer = nullptr;
    in_flight_.pop_front();
  }
}

bool Stream::idle() {
  if (open_) return false;
  const Pool pool;
  collect();
  return in_flight_.empty();
}

void Stream::record(Event& event) {
  submit();
  event.stream = this;
  event.after = last_;
}

bool Stream::done(const Event& event) {
  const Pool pool;
  if (!event.after) return true;
  if (event.after->buffer) event.stream->collect();
  if (event.after->buffer) return false;
  if (!event.after->error.empty()) throw std::runtime_error(event.after->error);
  return true;
}

void Stream::wait(const Event& event) {
  const Pool pool;
  if (event.after && event.after->buffer) event.after->buffer->waitUntilCompleted();
  (void)done(event);
}

void Stream::wait() {
  Event all;
  record(all);
  wait(all);
}

void Stream::append_submitted(std::vector<MTL::CommandBuffer*>& to) {
  const std::lock_guard lock(in_flight_mutex_);
  for (const auto& one : in_flight_) to.push_back(one->buffer->retain());
}

char* Stream::host_pointer(const void* device_pointer, size_t bytes) {
  const Place place = device_.find(device_pointer, bytes);
  return static_cast<char*>(place.buffer->contents()) + place.offset;
}

void Stream::begin_capture() {
  if (capture_) throw std::runtime_error("the stream is capturing already");
  capture_ = std::make_unique<Graph>();
}
Graph Stream::end_capture() {
  if (!capture_) throw std::runtime_error("the stream captures nothing");
  Graph graph = std::move(*capture_);
  capture_ = nullptr;
  return graph;
}

}  // namespace gptoss::metal
