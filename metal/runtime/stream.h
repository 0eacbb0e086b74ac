// A stream of one device: commands in order, gathered in a command buffer until somebody wants them done.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "device.h"

namespace gptoss::metal {

// What a command buffer can be told.
struct Command {
  enum Kind { kDispatch, kCopy, kFill };
  explicit Command(Kind kind) : kind(kind) {}
  Kind kind;
  // kDispatch
  MTL::ComputePipelineState* pipeline = nullptr;
  dim3 grid, block;
  size_t threadgroup_bytes = 0;
  std::vector<char> arguments;
  // kCopy, kFill
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
  int value = 0;
};

// A command buffer on its way.
struct Submitted {
  MTL::CommandBuffer* buffer = nullptr;  // null once it is done
  double busy = 0;                       // seconds that the GPU has spent on this stream up to its end
  std::string error;
};

struct Event {
  Stream* stream = nullptr;          // which may have ended, once `after` is done
  std::shared_ptr<Submitted> after;  // null: nothing was before it
};

struct Graph {
  std::vector<Command> commands;
};

class Stream {
 public:
  explicit Stream(Device& device);
  ~Stream();
  Stream(const Stream&) = delete;

  void launch(const char* kernel, dim3 grid, dim3 block, size_t threadgroup_bytes, const void* arguments,
              size_t argument_bytes);
  void copy(void* to, const void* from, size_t bytes, metalMemcpyKind kind);
  void fill(void* to, int value, size_t bytes);
  void replay(const Graph& graph);

  void record(Event& event);
  // Whether what was before the event is done; throws what went wrong there.
  static bool done(const Event& event);
  static void wait(const Event& event);
  void wait();  // for everything
  // Retains and appends what has been committed and may still run. The one call that other threads make.
  void append_submitted(std::vector<MTL::CommandBuffer*>& to);

  void begin_capture();
  Graph end_capture();

  bool matrix_units = false;  // see metalStreamUseMatrixUnits

 private:
  void put(Command command);
  void encode(const Command& command);
  MTL::ComputeCommandEncoder* compute();
  MTL::BlitCommandEncoder* blit();
  void end_encoding();
  void submit();
  void collect();  // takes note of what has completed
  bool idle();
  char* host_pointer(const void* device_pointer, size_t bytes);

  Device& device_;
  MTL::CommandBuffer* open_ = nullptr;
  MTL::ComputeCommandEncoder* compute_ = nullptr;
  MTL::BlitCommandEncoder* blit_ = nullptr;
  uint64_t resident_ = 0;  // the generation of buffers that compute_ has seen
  std::deque<std::shared_ptr<Submitted>> in_flight_;
  std::mutex in_flight_mutex_;  // held by the stream's own thread where it changes this, and by others
  std::shared_ptr<Submitted> last_;
  double busy_ = 0;
  std::unique_ptr<Graph> capture_;
  bool blocking_;  // every launch is waited for
};

}  // namespace gptoss::metal
