#include "device_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace emulator {
namespace {

constexpr size_t kArena = size_t{1} << 36;  // address space; memory is taken as it is touched
constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;  // what cudaMalloc promises
constexpr size_t kGap = 4096;  // at least, between allocations: an index that is off by a little is caught

struct Arena {
  char* begin = nullptr;
  size_t used = 0;
  size_t total = size_t{1} << 30;
  size_t in_use = 0;
  int open = 0;
  std::vector<Allocation> allocations;
  std::vector<size_t> placed;  // those of them that lie in the arena, at ascending addresses
  size_t last_found = 0;
};
Arena arena;

void reserve() {
  if (arena.begin != nullptr) return;
  void* block = mmap(nullptr, kArena, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (block == MAP_FAILED) {
    std::perror("emulator: no address space for the device's memory");
    std::abort();
  }
  arena.begin = static_cast<char*>(block);
}

void protect(int how) {
  if (arena.used != 0) mprotect(arena.begin, arena.used, how);
}

}  // namespace

DeviceOpen::DeviceOpen() {
  if (arena.open++ == 0) protect(PROT_READ | PROT_WRITE);
}
DeviceOpen::~DeviceOpen() {
  if (--arena.open == 0) protect(PROT_NONE);
}

char* allocate_memory(size_t bytes, Home home) {
  reserve();
  if (home == Home::kDevice && bytes > memory_free()) return nullptr;
  Allocation allocation{nullptr, bytes, home, false, true, static_cast<int>(arena.allocations.size())};
  if (home == Home::kPinnedHost) {
    allocation.begin = static_cast<char*>(std::malloc(std::max<size_t>(bytes, 1)));
    std::memset(allocation.begin, 0xff, bytes);
  } else {
    const size_t place = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const size_t span = (place + kGap + kPage - 1) / kPage * kPage;
    if (arena.used + span > kArena) return nullptr;
    const DeviceOpen open;
    allocation.begin = arena.begin + arena.used;
    arena.used += span;
    arena.in_use += bytes;
    mprotect(allocation.begin, span, PROT_READ | PROT_WRITE);
    ASAN_UNPOISON_MEMORY_REGION(allocation.begin, bytes);
    std::memset(allocation.begin, 0xff, bytes);
    ASAN_POISON_MEMORY_REGION(allocation.begin + bytes, span - bytes);
  }
  if (home == Home::kDevice) arena.placed.push_back(arena.allocations.size());
  arena.allocations.push_back(allocation);
  return allocation.begin;
}

bool free_memory(void* pointer, Home home) {
  for (Allocation& allocation : arena.allocations) {
    if (allocation.begin != pointer || allocation.freed || allocation.home != home) continue;
    allocation.freed = true;
    if (home == Home::kPinnedHost) {
      std::free(pointer);
    } else {
      arena.in_use -= allocation.bytes;
      madvise(pointer, (allocation.bytes + kPage - 1) / kPage * kPage, MADV_DONTNEED);
      ASAN_POISON_MEMORY_REGION(pointer, allocation.bytes);
    }
    return true;
  }
  return false;
}

bool in_device_arena(const void* address) {
  const char* p = static_cast<const char*>(address);
  return arena.begin != nullptr && p >= arena.begin && p < arena.begin + kArena;
}

const Allocation* find_allocation(const void* address) {
  const char* p = static_cast<const char*>(address);
  if (arena.last_found < arena.allocations.size()) {
    const Allocation& last = arena.allocations[arena.last_found];
    if (p >= last.begin && p < last.begin + last.bytes && !(last.freed && last.home == Home::kPinnedHost)) return &last;
  }
  if (in_device_arena(p)) {
    const auto after = std::upper_bound(arena.placed.begin(), arena.placed.end(), p,
                                        [](const char* p, size_t i) { return p < arena.allocations[i].begin; });
    if (after == arena.placed.begin()) return nullptr;
    arena.last_found = after[-1];
    return &arena.allocations[arena.last_found];
  }
  for (const Allocation& allocation : arena.allocations)
    if (allocation.home == Home::kPinnedHost && !allocation.freed && p >= allocation.begin &&
        p < allocation.begin + allocation.bytes)
      return &allocation;
  return nullptr;
}

void set_reachable(const void* begin, bool reachable) {
  for (Allocation& allocation : arena.allocations)
    if (allocation.begin == begin) allocation.reachable = reachable;
}

bool is_allocated(const void* address, size_t bytes) {
  const Allocation* allocation = find_allocation(address);
  return allocation != nullptr && !allocation->freed && allocation->reachable &&
         static_cast<const char*>(address) + bytes <= allocation->begin + allocation->bytes;
}

size_t memory_total() { return arena.total; }
size_t memory_free() { return arena.total > arena.in_use ? arena.total - arena.in_use : 0; }
void set_memory_total(size_t bytes) { arena.total = bytes; }
int living_allocations() {
  return static_cast<int>(std::count_if(arena.allocations.begin(), arena.allocations.end(),
                                        [](const Allocation& allocation) { return !allocation.freed; }));
}

Snapshot take_snapshot() {
  const DeviceOpen open;
  Snapshot snapshot;
  for (const Allocation& allocation : arena.allocations) {
    if (allocation.freed)
      snapshot.contents.emplace_back();
    else
      snapshot.contents.emplace_back(allocation.begin, allocation.begin + allocation.bytes);
  }
  return snapshot;
}

void put_back(const Snapshot& snapshot) {
  const DeviceOpen open;
  for (size_t i = 0; i < snapshot.contents.size(); ++i)
    std::copy(snapshot.contents[i].begin(), snapshot.contents[i].end(), arena.allocations[i].begin);
}

void apply_stores(const Snapshot& before, const Snapshot& after) {
  const DeviceOpen open;
  for (size_t i = 0; i < before.contents.size(); ++i)
    for (size_t j = 0; j < before.contents[i].size(); ++j)
      if (before.contents[i][j] != after.contents[i][j]) arena.allocations[i].begin[j] = after.contents[i][j];
}

}  // namespace emulator
