// The kernels of a Metal program by name, as a library that was compiled from its text has them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "core/lane.h"
#include "core/machine.h"

namespace emulator::metal {

constexpr size_t kSlots = 31;        // of buffers, and of threadgroup memory
constexpr size_t kMostBytes = 4096;  // of a setBytes

// What an encoder has set when it dispatches: bytes, and pieces of threadgroup memory.
struct Arguments {
  alignas(16) char bytes[kSlots][kMostBytes];
  size_t byte_counts[kSlots];
  size_t threadgroup_offset[kSlots];
};

// A parameter that has to be set: `bytes` of [[buffer(index)]], or [[threadgroup(index)]] memory.
struct Parameter {
  enum Kind { kBuffer, kThreadgroup } kind;
  size_t index, bytes;
};

struct Function {
  const void* code = nullptr;                // from which reports get the kernel's name
  void (*enter)(void* arguments) = nullptr;  // calls it, in one thread
  const Parameter* parameters = nullptr;
  size_t parameter_count = 0;
  size_t threads = 0;  // that a threadgroup may have, as the kernel says; 0: it says nothing
};
std::map<std::string, Function>& library();

// Puts a kernel into the library when the program starts.
struct Registration {
  Registration(const char* name, const Function& function) { library()[name] = function; }
};

// Launches, as an encoder makes them; the second with `arguments` at index 0.
constexpr size_t kThreadgroupMemory = 32768;  // of every Apple GPU
Launch make_launch(const Function& function, std::shared_ptr<Arguments> arguments, Dim3 grid, Dim3 block,
                   size_t threadgroup_bytes);
Launch make_launch(const std::string& name, Dim3 grid, Dim3 block, size_t threadgroup_bytes,
                   const void* arguments, size_t argument_bytes);

template <class T>
const T& buffer(const void* arguments, size_t index) {
  return *reinterpret_cast<const T*>(static_cast<const Arguments*>(arguments)->bytes[index]);
}
template <class T>
T* threadgroup_memory(const void* arguments, size_t index) {
  return reinterpret_cast<T*>(static_cast<char*>(dynamic_shared()) +
                              static_cast<const Arguments*>(arguments)->threadgroup_offset[index]);
}

}  // namespace emulator::metal
