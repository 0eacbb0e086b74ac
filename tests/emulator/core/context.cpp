#include "context.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

// A thread that made a fault is abandoned where it stands, with what it owned.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

// Saves the callee-saved registers on the stack of `from`, stores its stack pointer there, takes the other one.
extern "C" void emulator_switch(void** from, void* to);
extern "C" void emulator_begin();

#if defined(__x86_64__)
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, @function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch, .-emulator_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl emulator_switch
.type emulator_switch, %function
emulator_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulator_switch, .-emulator_switch
)");
#else
#error "The emulator needs a context switch for this processor: see emulator_switch()."
#endif

namespace emulator {
namespace {

void (*entry_point)() = nullptr;
#if EMULATOR_ASAN
Context* arriving = nullptr;  // for the sanitizer: whose switch is being finished
#endif

// A stack on which emulator_switch() finds zeroed registers and returns to emulator_begin().
void* first_stack_pointer(char* stack, size_t bytes) {
  auto top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15};
#if defined(__x86_64__)
  void** slots = reinterpret_cast<void**>(top);
  *--slots = nullptr;  // a return address that nobody uses: the ABI's alignment at entry
  *--slots = reinterpret_cast<void*>(emulator_begin);
  for (int i = 0; i < 6; ++i) *--slots = nullptr;
  return slots;
#else
  char* frame = reinterpret_cast<char*>(top) - 160;
  std::memset(frame, 0, 160);
  void* begin = reinterpret_cast<void*>(emulator_begin);
  std::memcpy(frame + 88, &begin, sizeof begin);  // x30
  return frame;
#endif
}

}  // namespace

Context main_context() {
  Context context;
  pthread_attr_t attributes;
  void* stack = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &stack, &context.stack_bytes);
    pthread_attr_destroy(&attributes);
  }
  context.stack = static_cast<const char*>(stack);
  return context;
}

void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
  entry_point = entry;
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(stack, bytes);  // whatever ran here before may have been abandoned
#endif
  context = {first_stack_pointer(stack, bytes), stack, bytes, nullptr};
}

void switch_context(Context& from, Context& to, [[maybe_unused]] bool for_good) {
#if EMULATOR_ASAN
  arriving = &to;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.sanitizer_stack, to.stack, to.stack_bytes);
#endif
  emulator_switch(&from.stack_pointer, to.stack_pointer);
#if EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(from.sanitizer_stack, nullptr, nullptr);
#endif
}

struct StackPool::Free {
  Free* next;
};

namespace {
constexpr size_t kStacks = 32768;
}

char* StackPool::take() {
  if (begin_ == nullptr) {
    void* block = mmap(nullptr, kStacks * kBytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) std::abort();
    begin_ = static_cast<char*>(block);
  }
  if (free_ != nullptr) {
    Free* first = free_;
    free_ = first->next;
    return reinterpret_cast<char*>(first) + kLink - kUsable;
  }
  if (used_ == kStacks) std::abort();
  char* slot = begin_ + used_++ * kBytes;
  mprotect(slot, kGuard, PROT_NONE);
  return slot + kGuard;
}

void StackPool::give_back(char* stack) {
#if EMULATOR_ASAN
  __asan_unpoison_memory_region(stack, kUsable);
#endif
  // The link lives at the top of the stack, on a page that is in use anyway.
  Free* link = reinterpret_cast<Free*>(stack + kUsable - kLink);
  link->next = free_;
  free_ = link;
}

bool StackPool::contains(const void* address) const {
  const char* p = static_cast<const char*>(address);
  return begin_ != nullptr && p >= begin_ && p < begin_ + used_ * kBytes;
}

}  // namespace emulator

extern "C" void emulator_begin() {
#if EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(emulator::arriving->sanitizer_stack, nullptr, nullptr);
#endif
  emulator::entry_point();
  std::abort();
}
