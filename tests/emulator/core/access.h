// The detector: every load and store of a kernel is looked at before it happens.
//
// GCC and Clang can call a function before each memory access (-fsanitize=thread), which is how ThreadSanitizer
// works. Kernels are compiled so, but linked with the functions of access_hooks.cpp instead, which know what
// ThreadSanitizer does not: named barriers and mbarriers, asynchronous copies, the async proxy, the bounds of a
// block's shared memory, and which memory a device can reach at all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "machine.h"

namespace emulator {

enum class Access { kRead, kWrite, kAtomicRead, kAtomicWrite };

// A plain access of the current thread, or one by an instruction on its behalf: bounds, alignment, races.
void check_access(const void* address, size_t bytes, Access access, Where where);

// Only whether these bytes may be touched at all: in shared memory, in a living allocation, ...
void check_bounds(const void* address, size_t bytes, bool write, Where where);

// --- Asynchronous operations, by their life: started by the current thread, landed, made sure of.

// From now on `operation` may write there, and nobody may touch it.
void begin_async_write(const void* address, size_t bytes, const AsyncOperation& operation);
// The writer waited for its own copy (cp.async.wait_group): as if the thread had written just now.
void end_async_write(Thread& thread, const void* address, size_t bytes, Where where);
// The copy told an mbarrier: those who wait for that one know of it. Returns the agent's new count.
void end_async_write(Block& block, const void* address, size_t bytes, Where where);
// From now on `operation` may read there through the async proxy, and nobody may write.
void begin_async_read(const void* address, size_t bytes, const AsyncOperation& operation);
void end_async_read(Block& block, const void* address, size_t bytes);

// --- Atomics order memory: with a fence before, what this thread knows passes on to who sees the value.
void atomic_order(const void* address, bool writes);

// Forgets all accesses: between launches everything is ordered.
void forget_accesses();
// Or those of one block's shared memory, which is aligned to 1024 bytes and given back.
void forget_accesses(const void* memory, size_t bytes);

}  // namespace emulator
