// What one GPU thread asks of the emulator: its place, shuffles, votes, atomics. The headers for CUDA and HIP give
// these the names and the masks of their worlds. Declarations only: kernels are compiled with a call before each
// memory access (see access.h), the emulator itself is not.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "machine.h"

namespace emulator {

// --- Its place, put there whenever a thread goes on.
struct Place {
  Dim3 thread, block, block_extent, grid_extent;
  int warp_size = 0;
};
extern Place place;
void* dynamic_shared();

// --- Collectives of a warp, on up to eight bytes. `masked`: lanes of the mask; otherwise those that are active.
enum class Shuffle { kIndex, kUp, kDown, kXor };
uint64_t shuffle(Shuffle how, bool masked, uint64_t mask, uint64_t value, int distance, int width, const char* name,
                 Site site);
uint64_t ballot(bool masked, uint64_t mask, bool vote, const char* name, Site site);
enum class Match { kAny, kAll };
uint64_t match(Match how, uint64_t mask, uint64_t value, const char* name, Site site);
enum class Reduce { kAdd, kMin, kMax, kAnd, kOr, kXor };
uint64_t reduce(Reduce how, bool is_signed, uint64_t mask, uint64_t value, const char* name, Site site);
void warp_barrier(bool masked, uint64_t mask, const char* name, Site site);

template <class T>
T shuffle_value(Shuffle how, bool masked, uint64_t mask, T value, int distance, int width, const char* name,
                Site site) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = shuffle(how, masked, mask, bits, distance, width, name, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// --- Atomics on 2, 4 or 8 bytes. Relaxed; the fences around them order memory.
enum class Atomic { kAdd, kMin, kMax, kAnd, kOr, kXor, kExchange, kCompareExchange, kLoad, kStore };
enum class Number { kSigned, kUnsigned, kFloat };
uint64_t atomic(Atomic how, Number number, void* address, size_t bytes, uint64_t value, uint64_t compare,
                const char* name, Site site);

template <class T>
T atomic_value(Atomic how, T* address, T value, T compare, const char* name, Site site) {
  constexpr Number number = std::is_floating_point_v<T> ? Number::kFloat
                            : std::is_signed_v<T>       ? Number::kSigned
                                                        : Number::kUnsigned;
  uint64_t bits = 0, compare_bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  std::memcpy(&compare_bits, &compare, sizeof compare);
  bits = atomic(how, number, address, sizeof(T), bits, compare_bits, name, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulator
