// What the compiler calls in place of its own atomic instructions in a file that is compiled with access hooks: for
// std::atomic in the host's part, and for the __atomic builtins in kernels.
#include "access.h"
#include "lane.h"

namespace {

using emulator::Access;

constexpr int kAcquireOrStronger = __ATOMIC_CONSUME;  // the numbers of the memory orders ascend

bool in_kernel() { return emulator::machine.current != nullptr && emulator::machine.current->inside == 0; }

// Before the operation: bounds and races; a releasing one passes on what this thread knows without a fence.
template <class T>
void before(const volatile T* address, bool writes, int order, void* return_address) {
  if (!in_kernel()) return;
  const emulator::Inside inside;
  void* plain = const_cast<T*>(address);
  emulator::check_access(plain, sizeof(T), writes ? Access::kAtomicWrite : Access::kAtomicRead,
                         emulator::Where::of(return_address));
  if (!writes) emulator::poll(plain, "an atomic load", emulator::Site::current());
  if (writes && order > kAcquireOrStronger) emulator::thread_fence();
}
template <class T>
void after(const volatile T* address, bool writes) {
  if (!in_kernel()) return;
  const emulator::Inside inside;
  emulator::atomic_order(const_cast<T*>(address), writes);
}

}  // namespace

#define HOOK extern "C" __attribute__((visibility("default")))
#define FETCH(bits, type, name, builtin)                                                         \
  HOOK type __tsan_atomic##bits##_##name(volatile type* a, type v, int order) {                  \
    before(a, true, order, __builtin_return_address(0));                                         \
    const type old_value = builtin(a, v, __ATOMIC_SEQ_CST);                                      \
    after(a, true);                                                                              \
    return old_value;                                                                            \
  }
#define COMPARE(bits, type, name)                                                                \
  HOOK int __tsan_atomic##bits##_##name(volatile type* a, type* c, type v, int order, int) {     \
    before(a, true, order, __builtin_return_address(0));                                         \
    const bool same = __atomic_compare_exchange_n(a, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    after(a, true);                                                                              \
    return same;                                                                                 \
  }
#define HOOKS(bits, type)                                                                        \
  HOOK type __tsan_atomic##bits##_load(const volatile type* a, int order) {                      \
    before(a, false, order, __builtin_return_address(0));                                        \
    const type value = __atomic_load_n(a, __ATOMIC_SEQ_CST);                                     \
    after(a, false);                                                                             \
    return value;                                                                                \
  }                                                                                              \
  HOOK void __tsan_atomic##bits##_store(volatile type* a, type v, int order) {                   \
    before(a, true, order, __builtin_return_address(0));                                         \
    __atomic_store_n(a, v, __ATOMIC_SEQ_CST);                                                    \
    after(a, true);                                                                              \
  }                                                                                              \
  FETCH(bits, type, exchange, __atomic_exchange_n)                                               \
  FETCH(bits, type, fetch_add, __atomic_fetch_add)                                               \
  FETCH(bits, type, fetch_sub, __atomic_fetch_sub)                                               \
  FETCH(bits, type, fetch_and, __atomic_fetch_and)                                               \
  FETCH(bits, type, fetch_or, __atomic_fetch_or)                                                 \
  FETCH(bits, type, fetch_xor, __atomic_fetch_xor)                                               \
  COMPARE(bits, type, compare_exchange_strong)                                                   \
  COMPARE(bits, type, compare_exchange_weak)

HOOKS(8, uint8_t)
HOOKS(16, uint16_t)
HOOKS(32, uint32_t)
HOOKS(64, uint64_t)

HOOK void __tsan_atomic_thread_fence(int) {
  if (in_kernel()) emulator::thread_fence();
}
HOOK void __tsan_atomic_signal_fence(int) {}
