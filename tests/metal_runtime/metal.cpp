// A Metal device whose kernels the emulator runs.
//
// Host and device see shared memory through different addresses, and what one writes the other sees from one command
// buffer to the next: a buffer has two copies, exchanged when a command buffer starts and when it has ended. Command
// buffers run in the order of their commits, when somebody waits, or when chance wants it.
//
// FAKE_METAL_FAILS=compile|pipeline|run makes these fail as Metal would. FAKE_METAL_TRACE=FILE: what was asked of Metal.
// FAKE_METAL_THREADS, FAKE_METAL_SHARED, FAKE_METAL_WIDTH, FAKE_METAL_FAMILY: a GPU that has less.
// FAKE_METAL_WAITS=1: no command buffer ends before somebody waits for it, as one that takes long.
#include "metal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "core/device_memory.h"
#include "core/fault.h"
#include "core/machine.h"
#include "core/random.h"
#include "metal/library.h"
#include "runtime/overlap.h"

namespace fake_metal {
namespace {

using emulator::DeviceOpen;
using emulator::Dim3;
using emulator::Random;
namespace msl = emulator::metal;

constexpr size_t kThreadgroupMemory = msl::kThreadgroupMemory;
constexpr size_t kThreads = 1024;  // of a threadgroup
// Of a kernel that asks for no more: how many there can be depends on its registers.
constexpr size_t kUnpromisedThreads = 256;
constexpr size_t kLargestBuffer = size_t{1} << 29;
enum Status : unsigned long { kNotEnqueued = 0, kCommitted = 2, kCompleted = 4, kFailed = 5 };
enum Usage : unsigned long { kRead = 1, kWrite = 2 };

bool fails(const char* what) {
  const char* text = std::getenv("FAKE_METAL_FAILS");
  return text && std::string(text) == what;
}

size_t limit(const char* variable, size_t usual) {
  const char* text = std::getenv(variable);
  return text ? std::strtoul(text, nullptr, 10) : usual;
}

std::map<std::string, int>& counts() {
  static auto* const all = new std::map<std::string, int>;
  return *all;
}

void trace(const std::string& line) {
  ++counts()[line.substr(0, line.find(' '))];
  const char* file = std::getenv("FAKE_METAL_TRACE");
  if (!file) return;
  std::FILE* to = std::fopen(file, "a");
  if (!to) return;
  std::fprintf(to, "%s\n", line.c_str());
  std::fclose(to);
}

struct CompileOptions : Object {
  CompileOptions() : Object("MTLCompileOptions") {}
  bool fast_math = true;
  unsigned long version = 0;
};

struct Buffer : Object {
  Buffer(size_t bytes, const void* host) : Object("MTLBuffer"), bytes(bytes) {
    memory = emulator::allocate_memory(bytes, emulator::Home::kDevice);
    if (!memory) return;
    if (host) {
      mapped = static_cast<const char*>(host);
      const DeviceOpen open;
      std::memcpy(memory, host, bytes);
    } else {
      contents.assign(bytes, static_cast<char>(0xff));
    }
  }
  void dealloc() override {
    emulator::free_memory(memory, emulator::Home::kDevice);
    contents.clear();
  }
  char* host() { return mapped ? const_cast<char*>(mapped) : contents.data(); }

  // Between the host's copy and the device's.
  void to_device() {
    if (mapped) return;
    const DeviceOpen open;
    std::memcpy(memory, contents.data(), bytes);
    before = contents;
  }
  void from_device() {
    const DeviceOpen open;
    if (mapped) {
      if (std::memcmp(memory, mapped, bytes) != 0)
        note(this, "a kernel wrote to memory that was mapped for reading");
      return;
    }
    if (before != contents) note(this, "the host wrote to it while a command buffer used it");
    std::memcpy(contents.data(), memory, bytes);
    before.clear();
  }

  size_t bytes;
  char* memory;
  const char* mapped = nullptr;
  std::vector<char> contents, before;
};

struct Library : Object {
  Library() : Object("MTLLibrary") {}
  std::string source;
};
struct Function : Object {
  Function(const std::string& name, const msl::Function& function)
      : Object("MTLFunction"), name(name), function(function) {}
  std::string name;
  msl::Function function;
};
struct Pipeline : Object {
  explicit Pipeline(const Function& of)
      : Object("MTLComputePipelineState"), name(of.name), function(of.function) {}
  size_t threads() const {
    return limit("FAKE_METAL_THREADS", function.threads > 0 ? function.threads : kUnpromisedThreads);
  }
  std::string name;
  msl::Function function;
};

struct CommandBuffer;
struct Queue : Object {
  Queue() : Object("MTLCommandQueue") {}
  std::deque<CommandBuffer*> committed;
};

// One command as it was encoded; true if all went well.
struct Command {
  std::function<bool()> run;
  std::set<Buffer*> uses;  // what a dispatch may reach; what a copy names
};

struct Encoder : Object {
  Encoder(const char* type, CommandBuffer* buffer) : Object(type), buffer(buffer) {}
  void dealloc() override {
    if (!ended) note(this, "released without endEncoding");
  }
  CommandBuffer* buffer;
  bool ended = false;
  void expect_open(const char* call) {
    if (ended) note(this, std::string(call) + " after endEncoding");
  }
};
struct ComputeEncoder : Encoder {
  explicit ComputeEncoder(CommandBuffer* buffer) : Encoder("MTLComputeCommandEncoder", buffer) {}
  Pipeline* pipeline = nullptr;
  std::set<Buffer*> resident;
  msl::Arguments arguments{};
  size_t threadgroup_bytes[msl::kSlots] = {};
};
struct BlitEncoder : Encoder {
  explicit BlitEncoder(CommandBuffer* buffer) : Encoder("MTLBlitCommandEncoder", buffer) {}
};

struct CommandBuffer : Object {
  explicit CommandBuffer(Queue* queue) : Object("MTLCommandBuffer"), queue(queue) {}
  Queue* queue;
  std::vector<Command> commands;
  Encoder* encoder = nullptr;
  Status status = kNotEnqueued;
  std::string error;
  double start = 0, end = 0;

  void run() {
    static double clock = 1;
    start = clock;
    if (fails("run")) {
      status = kFailed;
      error = "Caused GPU Hang Error";
      return;
    }
    std::set<Buffer*> used;
    for (const Command& command : commands) used.insert(command.uses.begin(), command.uses.end());
    for (Buffer* one : used) {
      if (one->alive) continue;
      note(one, "released before the command buffer that uses it has completed");
      status = kFailed;
      error = "Caused GPU Address Fault Error";
    }
    if (status == kFailed) return;
    for (Buffer* one : used) one->to_device();
    status = kCompleted;
    for (const Command& command : commands) {
      if (command.run()) continue;
      status = kFailed;
      error = "a kernel did what it must not, see the emulator's report";
      break;
    }
    for (Buffer* one : used) one->from_device();
    clock += 1e-3;
    end = clock;
  }
};

void run_first(Queue& queue) {
  CommandBuffer* const first = queue.committed.front();
  queue.committed.pop_front();
  first->run();
  --first->references;  // the queue's own
}

// --- Encoding

struct Size {
  unsigned long width, height, depth;
  size_t count() const { return width * height * depth; }
  std::string text() const {
    return std::to_string(width) + " x " + std::to_string(height) + " x " + std::to_string(depth);
  }
};
struct Range {
  unsigned long location, length;
};

Dim3 to_dim3(Size size) {
  return {static_cast<unsigned>(size.width), static_cast<unsigned>(size.height),
          static_cast<unsigned>(size.depth)};
}

std::vector<Buffer*>& all_buffers() {
  static auto* const all = new std::vector<Buffer*>;
  return *all;
}

// Float32 subnormals count as 0 on Apple's GPUs, as operands and as results.
class SubnormalsAreZero {
 public:
  SubnormalsAreZero() : before_(mode()) { set_mode(before_ | kZero); }
  ~SubnormalsAreZero() { set_mode(before_); }
  SubnormalsAreZero(const SubnormalsAreZero&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned long kZero = 0x8040;  // FTZ, DAZ
  static unsigned long mode() { return __builtin_ia32_stmxcsr(); }
  static void set_mode(unsigned long mode) { __builtin_ia32_ldmxcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
  static constexpr unsigned long kZero = 1ul << 24;  // FZ
  static unsigned long mode() { return __builtin_aarch64_get_fpcr(); }
  static void set_mode(unsigned long mode) { __builtin_aarch64_set_fpcr(static_cast<unsigned>(mode)); }
#endif
  unsigned long before_;
};

bool run_kernel(const msl::Function& function, const std::shared_ptr<msl::Arguments>& arguments, Size grid,
                Size block, size_t threadgroup_bytes, const std::set<Buffer*>& resident) {
  std::vector<Buffer*> hidden;
  for (Buffer* one : all_buffers())
    if (one->alive && resident.count(one) == 0) hidden.push_back(one);
  for (Buffer* one : hidden) emulator::set_reachable(one->memory, false);
  const emulator::Launch launch =
      msl::make_launch(function, arguments, to_dim3(grid), to_dim3(block), threadgroup_bytes);
  const SubnormalsAreZero as_there;
  const bool good = emulator::run_launches({launch});
  for (Buffer* one : hidden) emulator::set_reachable(one->memory, true);
  return good;
}

void dispatch(ComputeEncoder* self, Size grid, Size block) {
  self->expect_open("dispatchThreadgroups");
  if (!self->pipeline) return note(self, "dispatchThreadgroups without a pipeline");
  const msl::Function& function = self->pipeline->function;
  if (grid.count() == 0 || block.count() == 0)
    return note(self,
                "dispatchThreadgroups: " + grid.text() + " threadgroups of " + block.text() + " threads");
  if (block.count() > std::min(kThreads, self->pipeline->threads()))
    return note(self, self->pipeline->name + ": threadgroups of " + block.text() + " threads; " +
                          std::to_string(self->pipeline->threads()) + " are allowed");
  if (block.count() % 32 != 0)
    return note(self, "threadgroups of " + block.text() + " threads: no whole SIMD groups");
  size_t total = 0;
  for (size_t i = 0; i < msl::kSlots; ++i) {
    self->arguments.threadgroup_offset[i] = total;
    total += self->threadgroup_bytes[i];
  }
  if (total > kThreadgroupMemory)
    return note(self, std::to_string(total) + " bytes of threadgroup memory; there are " +
                          std::to_string(kThreadgroupMemory));
  for (size_t i = 0; i < function.parameter_count; ++i) {
    const msl::Parameter& p = function.parameters[i];
    const bool buffer = p.kind == msl::Parameter::kBuffer;
    if (buffer && self->arguments.byte_counts[p.index] != p.bytes)
      return note(self, "the kernel's buffer " + std::to_string(p.index) + " has " + std::to_string(p.bytes) +
                            " bytes, " + std::to_string(self->arguments.byte_counts[p.index]) + " were set");
    if (!buffer && self->threadgroup_bytes[p.index] == 0)
      return note(self, "the kernel's threadgroup memory " + std::to_string(p.index) + " has no length");
  }
  trace("dispatch " + self->pipeline->name + " " + grid.text() + " of " + block.text());
  const auto arguments = std::make_shared<msl::Arguments>(self->arguments);
  const std::set<Buffer*> resident = self->resident;
  self->buffer->commands.push_back(
      {[=] { return run_kernel(function, arguments, grid, block, total, resident); }, resident});
}

void expect_inside(const Object* self, const Buffer* buffer, size_t offset, size_t bytes) {
  if (offset + bytes > buffer->bytes)
    note(self, std::to_string(bytes) + " bytes at +" + std::to_string(offset) + " of a buffer of " +
                   std::to_string(buffer->bytes));
}

void add_encoders() {
  const auto end = +[](Encoder* self, const char*) {
    self->expect_open("endEncoding");
    self->ended = true;
    self->buffer->encoder = nullptr;
  };
  method("MTLComputeCommandEncoder", "endEncoding", end);
  method("MTLBlitCommandEncoder", "endEncoding", end);
  method(
      "MTLComputeCommandEncoder",
      "setComputePipelineState:", +[](ComputeEncoder* self, const char*, Pipeline* pipeline) {
        self->expect_open("setComputePipelineState");
        self->pipeline = pipeline;
      });
  method(
      "MTLComputeCommandEncoder", "setBytes:length:atIndex:",
      +[](ComputeEncoder* self, const char*, const void* bytes, unsigned long length, unsigned long index) {
        self->expect_open("setBytes");
        if (length > msl::kMostBytes || index >= msl::kSlots)
          return note(self,
                      "setBytes: " + std::to_string(length) + " bytes at index " + std::to_string(index));
        std::memcpy(self->arguments.bytes[index], bytes, length);
        self->arguments.byte_counts[index] = length;
      });
  method(
      "MTLComputeCommandEncoder", "setThreadgroupMemoryLength:atIndex:",
      +[](ComputeEncoder* self, const char*, unsigned long length, unsigned long index) {
        self->expect_open("setThreadgroupMemoryLength");
        if (length % 16 != 0 || index >= msl::kSlots)
          return note(self,
                      "setThreadgroupMemoryLength: " + std::to_string(length) + " is no multiple of 16");
        self->threadgroup_bytes[index] = length;
      });
  method(
      "MTLComputeCommandEncoder", "useResources:count:usage:",
      +[](ComputeEncoder* self, const char*, Buffer* const* buffers, unsigned long count,
          unsigned long usage) {
        self->expect_open("useResources");
        for (unsigned long i = 0; i < count; ++i) {
          if (!buffers[i]->alive) note(buffers[i], "made resident after its release");
          if (buffers[i]->mapped && (usage & kWrite))
            note(buffers[i], "is mapped for reading, and used for writing");
          if (!buffers[i]->mapped && !(usage & kWrite))
            note(buffers[i], "is used for reading alone, which hides writes");
          self->resident.insert(buffers[i]);
        }
      });
  method(
      "MTLComputeCommandEncoder", "dispatchThreadgroups:threadsPerThreadgroup:",
      +[](ComputeEncoder* self, const char*, Size grid, Size block) { dispatch(self, grid, block); });
  method(
      "MTLBlitCommandEncoder", "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:",
      +[](BlitEncoder* self, const char*, Buffer* from, unsigned long from_offset, Buffer* to,
          unsigned long to_offset, unsigned long bytes) {
        self->expect_open("copyFromBuffer");
        expect_inside(self, from, from_offset, bytes);
        expect_inside(self, to, to_offset, bytes);
        self->buffer->commands.push_back({[=] {
                                            const DeviceOpen open;
                                            std::memmove(to->memory + to_offset, from->memory + from_offset,
                                                         bytes);
                                            return true;
                                          },
                                          {from, to}});
      });
  method(
      "MTLBlitCommandEncoder", "fillBuffer:range:value:",
      +[](BlitEncoder* self, const char*, Buffer* to, Range range, unsigned char value) {
        self->expect_open("fillBuffer");
        expect_inside(self, to, range.location, range.length);
        self->buffer->commands.push_back({[=] {
                                            const DeviceOpen open;
                                            std::memset(to->memory + range.location, value, range.length);
                                            return true;
                                          },
                                          {to}});
      });
}

// --- Command buffers and queues

template <class E>
Object* open_encoder(CommandBuffer* self) {
  if (self->encoder) note(self, "a second encoder before the first one's endEncoding");
  if (self->status != kNotEnqueued) note(self, "an encoder after commit");
  auto* const encoder = new E(self);
  self->encoder = encoder;
  return autorelease(encoder);
}

void add_command_buffers() {
  method(
      "MTLCommandQueue", "commandBuffer",
      +[](Queue* self, const char*) { return autorelease(new CommandBuffer(self)); });
  method(
      "MTLCommandBuffer", "computeCommandEncoder",
      +[](CommandBuffer* self, const char*) { return open_encoder<ComputeEncoder>(self); });
  method(
      "MTLCommandBuffer", "blitCommandEncoder",
      +[](CommandBuffer* self, const char*) { return open_encoder<BlitEncoder>(self); });
  method(
      "MTLCommandBuffer", "commit", +[](CommandBuffer* self, const char*) {
        if (self->encoder) note(self, "commit before endEncoding");
        if (self->status != kNotEnqueued) return note(self, "committed twice");
        trace("commit");
        trace("living " + std::to_string(living()));
        self->status = kCommitted;
        ++self->references;
        self->queue->committed.push_back(self);
      });
  method(
      "MTLCommandBuffer", "waitUntilCompleted", +[](CommandBuffer* self, const char*) {
        if (self->status == kNotEnqueued) return note(self, "waitUntilCompleted before commit: for ever");
        while (self->status == kCommitted) run_first(*self->queue);
      });
  method(
      "MTLCommandBuffer", "status", +[](CommandBuffer* self, const char*) {
        static Random chance(7);
        const bool waits = std::getenv("FAKE_METAL_WAITS") != nullptr;
        if (self->status == kCommitted && !waits && chance.chance(0.3))
          run_first(*self->queue);  // time passes
        return self->status;
      });
  method(
      "MTLCommandBuffer", "error", +[](CommandBuffer* self, const char*) -> Object* {
        return self->error.empty() ? nullptr : autorelease(new Error(self->error));
      });
  method("MTLCommandBuffer", "GPUStartTime", +[](CommandBuffer* self, const char*) { return self->start; });
  method("MTLCommandBuffer", "GPUEndTime", +[](CommandBuffer* self, const char*) { return self->end; });
}

// --- Device

struct Device : Object {
  Device() : Object("MTLDevice") {}
};

Object* new_buffer(const Object* device, size_t bytes, const void* host) {
  if (bytes == 0 || bytes > kLargestBuffer) {
    note(device, "a buffer of " + std::to_string(bytes) + " bytes; the largest has " + std::to_string(kLargestBuffer));
    return nullptr;
  }
  auto* const buffer = new Buffer(bytes, host);
  if (!buffer->memory) return nullptr;
  all_buffers().push_back(buffer);
  trace((host ? "map " : "allocate ") + std::to_string(bytes));
  return buffer;
}

Object* new_library(String* source, CompileOptions* options, Error** error) {
  if (!options || options->fast_math) note(nullptr, "the program is compiled with fast math");
  if (options && options->version < ((3ul << 16) | 1))
    note(nullptr, "the program is compiled as Metal before 3.1");
  if (fails("compile")) {
    *error =
        static_cast<Error*>(autorelease(new Error("program_source:7:1: error: unknown type name 'flaot'")));
    return nullptr;
  }
  trace("compile");
  auto* const library = new Library;
  library->source = source->text;
  return library;
}

void add_device() {
  method(
      "MTLDevice", "name",
      +[](Object*, const char*) { return autorelease(new String("Apple M0, an emulated GPU")); });
  method(
      "MTLDevice",
      "supportsFamily:", +[](Object*, const char*, long family) -> bool {
        return family <= static_cast<long>(limit("FAKE_METAL_FAMILY", 1007));
      });
  method(
      "MTLDevice", "recommendedMaxWorkingSetSize",
      +[](Object*, const char*) { return static_cast<uint64_t>(emulator::memory_total()); });
  method(
      "MTLDevice", "currentAllocatedSize", +[](Object*, const char*) {
        return static_cast<unsigned long>(emulator::memory_total() - emulator::memory_free());
      });
  method(
      "MTLDevice", "maxBufferLength",
      +[](Object*, const char*) { return static_cast<unsigned long>(kLargestBuffer); });
  method(
      "MTLDevice", "maxThreadgroupMemoryLength", +[](Object*, const char*) {
        return static_cast<unsigned long>(limit("FAKE_METAL_SHARED", kThreadgroupMemory));
      });
  method("MTLDevice", "newCommandQueue", +[](Object*, const char*) -> Object* { return new Queue; });
  method(
      "MTLDevice", "newBufferWithLength:options:",
      +[](Object* self, const char*, unsigned long bytes, unsigned long options) {
        if (options != 0) note(self, "newBufferWithLength: not of shared memory, which the host reads and writes");
        return new_buffer(self, bytes, nullptr);
      });
  method(
      "MTLDevice", "newBufferWithBytesNoCopy:length:options:deallocator:",
      +[](Object* self, const char*, void* host, unsigned long bytes, unsigned long options,
          void* deallocator) -> Object* {
        const auto page = static_cast<unsigned long>(getpagesize());
        if (reinterpret_cast<unsigned long>(host) % page != 0 || bytes % page != 0)
          return note(self, "newBufferWithBytesNoCopy: not whole pages"), nullptr;
        if (deallocator) note(self, "newBufferWithBytesNoCopy: a deallocator that is not modelled");
        if (options != 0) note(self, "newBufferWithBytesNoCopy: not of shared memory");
        return new_buffer(self, bytes, host);
      });
  method(
      "MTLDevice", "newLibraryWithSource:options:error:",
      +[](Object*, const char*, String* source, CompileOptions* options, Error** error) {
        return new_library(source, options, error);
      });
  method(
      "MTLDevice", "newComputePipelineStateWithFunction:error:",
      +[](Object*, const char*, Function* function, Error** error) -> Object* {
        trace("pipeline " + function->name);
        if (!fails("pipeline")) return new Pipeline(*function);
        *error = static_cast<Error*>(autorelease(new Error("Compiler encountered an internal error")));
        return nullptr;
      });
  method(
      "MTLLibrary", "newFunctionWithName:", +[](Library* self, const char*, String* name) -> Object* {
        const auto found = msl::library().find(name->text);
        const bool in_text =
            self->source.find(name->text) != std::string::npos;  // of the program that was given
        return found == msl::library().end() || !in_text ? nullptr : new Function(name->text, found->second);
      });
  method(
      "MTLComputePipelineState", "maxTotalThreadsPerThreadgroup",
      +[](Pipeline* self, const char*) { return static_cast<unsigned long>(self->threads()); });
  method(
      "MTLComputePipelineState", "threadExecutionWidth",
      +[](Object*, const char*) { return static_cast<unsigned long>(limit("FAKE_METAL_WIDTH", 32)); });
  method(
      "MTLComputePipelineState", "staticThreadgroupMemoryLength", +[](Object*, const char*) { return 0ul; });
  method(
      "MTLBuffer", "gpuAddress",
      +[](Buffer* self, const char*) { return reinterpret_cast<uint64_t>(self->memory); });
  method("MTLBuffer", "contents", +[](Buffer* self, const char*) { return self->host(); });
  method(
      "MTLBuffer", "length",
      +[](Buffer* self, const char*) { return static_cast<unsigned long>(self->bytes); });
  method(
      "MTLCompileOptions",
      "setFastMathEnabled:", +[](CompileOptions* self, const char*, bool fast) { self->fast_math = fast; });
  method(
      "MTLCompileOptions", "setLanguageVersion:",
      +[](CompileOptions* self, const char*, unsigned long version) { self->version = version; });
}

Device* the_device() {
  static auto* const device = new Device;
  return device;
}

}  // namespace

void add_metal() {
  emulator::leave_thread_locals_alone();
  add_device();
  add_command_buffers();
  add_encoders();
}

int asked(const std::string& what) { return counts()[what]; }

Object* allocate(const std::string& type) {
  if (type == "MTLCompileOptions") return new CompileOptions;
  return nullptr;
}

}  // namespace fake_metal

extern "C" {
void* MTLCreateSystemDefaultDevice() { return fake_metal::the_device(); }
void* MTLCopyAllDevices() {
  auto* const all = new fake_metal::Array;
  all->items.push_back(fake_metal::the_device());
  return all;
}
void* MTLCopyAllDevicesWithObserver(void*, void*) { return nullptr; }
void MTLRemoveDeviceObserver(void*) {}
}
