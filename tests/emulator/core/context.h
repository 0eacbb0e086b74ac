// Stackful coroutines: one for each GPU thread, so that kernels need no transformation.
#pragma once

#include <cstddef>

namespace emulator {

// A stack, and the place on it where execution stands while something else runs.
struct Context {
  void* stack_pointer = nullptr;
  const char* stack = nullptr;  // lowest address
  size_t stack_bytes = 0;
  void* sanitizer_stack = nullptr;  // AddressSanitizer's, kept across switches
};

// The context that the operating system started: the scheduler runs on it.
Context main_context();

// Makes `context` begin with entry() on the given stack at the next switch to it. entry() must not return.
void prepare(Context& context, char* stack, size_t bytes, void (*entry)());

// Leaves `from` and goes on with `to`. With `for_good`, nobody will come back to `from`.
void switch_context(Context& from, Context& to, bool for_good = false);

// Stacks with an inaccessible page below each, so that an overflow is a segmentation fault and not a riddle.
// They are reused in the order in which they were given back.
class StackPool {
 public:
  static constexpr size_t kGuard = 16384;
  static constexpr size_t kBytes = 256 * 1024;  // address space; memory is taken as it is touched
  static constexpr size_t kLink = 64;           // at the top of each, for the pool
  static constexpr size_t kUsable = kBytes - kGuard;
  char* take();
  void give_back(char* stack);
  bool contains(const void* address) const;

 private:
  char* begin_ = nullptr;
  size_t used_ = 0;
  struct Free;
  Free* free_ = nullptr;
};

}  // namespace emulator
