// What the compiler calls before each memory access of a kernel: the interface of ThreadSanitizer's runtime, which
// this file takes the place of. A build with AddressSanitizer has none of these calls.
#include "access.h"

namespace {

using emulator::Access;
using emulator::machine;

// Plain accesses are also where a thread can be overtaken: `counter = counter + 1` is two of them.
void maybe_give_way(const void* address) {
  emulator::Thread& thread = *machine.current;
  const char* p = static_cast<const char*>(address);
  if (p >= thread.context.stack && p < thread.context.stack + thread.context.stack_bytes) return;
  // Even a loop that waits for a plain store must let the one who stores come.
  constexpr uint64_t kLongRun = 20000;
  if (machine.random.chance(machine.policy.preempt) || ++machine.accesses % kLongRun == 0)
    emulator::give_way(emulator::State::kReady, "a memory access", emulator::Site::current());
}

inline void access(const void* address, size_t bytes, Access kind, void* return_address) {
  if (machine.current == nullptr || machine.current->inside != 0) return;  // the host's part of the file
  const emulator::Inside inside;
  emulator::check_access(address, bytes, kind, emulator::Where::of(return_address));
  maybe_give_way(address);
}

// A volatile load is how a program looks for what another thread will store: let that one come.
inline void volatile_access(const void* address, size_t bytes, bool write, void* return_address) {
  if (machine.current == nullptr || machine.current->inside != 0) return;
  const emulator::Inside inside;
  emulator::check_access(address, bytes, write ? Access::kAtomicWrite : Access::kAtomicRead,
                         emulator::Where::of(return_address));
  if (!write) emulator::poll(address, "a volatile load", emulator::Site::current());
  emulator::atomic_order(address, write);
}

}  // namespace

#define HOOK extern "C" __attribute__((visibility("default"))) void
#define HOOKS(bytes)                                                                                               \
  HOOK __tsan_read##bytes(void* p) { access(p, bytes, Access::kRead, __builtin_return_address(0)); }               \
  HOOK __tsan_write##bytes(void* p) { access(p, bytes, Access::kWrite, __builtin_return_address(0)); }             \
  HOOK __tsan_unaligned_read##bytes(void* p) { access(p, bytes, Access::kRead, __builtin_return_address(0)); }     \
  HOOK __tsan_unaligned_write##bytes(void* p) { access(p, bytes, Access::kWrite, __builtin_return_address(0)); }   \
  HOOK __tsan_volatile_read##bytes(void* p) { volatile_access(p, bytes, false, __builtin_return_address(0)); }     \
  HOOK __tsan_volatile_write##bytes(void* p) { volatile_access(p, bytes, true, __builtin_return_address(0)); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

// Structures of other sizes, byte by byte: their members carry the alignment.
HOOK __tsan_read_range(void* p, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    access(static_cast<char*>(p) + i, 1, Access::kRead, __builtin_return_address(0));
}
HOOK __tsan_write_range(void* p, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    access(static_cast<char*>(p) + i, 1, Access::kWrite, __builtin_return_address(0));
}

HOOK __tsan_init() {}
HOOK __tsan_func_entry(void*) {}
HOOK __tsan_func_exit() {}
HOOK __tsan_vptr_update(void**, void*) {}
HOOK __tsan_vptr_read(void**) {}
