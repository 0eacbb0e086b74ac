// The device's memory: allocations with exact bounds, poisoned, at addresses that are never used again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

enum class Home { kDevice, kPinnedHost };

struct Allocation {
  char* begin = nullptr;
  size_t bytes = 0;
  Home home = Home::kDevice;
  bool freed = false;
  bool reachable = true;  // for the kernel that runs; see set_reachable()
  int number = 0;  // in the order of allocation
};

// nullptr when the device is full.
char* allocate_memory(size_t bytes, Home home);
bool free_memory(void* pointer, Home home);
// The allocation that holds the address, or the one that it lies behind by less than a gap; else nullptr.
const Allocation* find_allocation(const void* address);
bool in_device_arena(const void* address);
// Metal: a kernel reaches only what its encoder has made resident.
void set_reachable(const void* begin, bool reachable);
// Whether all of these bytes are in one living allocation, and in reach.
bool is_allocated(const void* address, size_t bytes);

size_t memory_total();
size_t memory_free();
void set_memory_total(size_t bytes);  // for tests of what happens when it runs out
int living_allocations();

// While nobody on the device runs, its memory is out of the host's reach.
class DeviceOpen {
 public:
  DeviceOpen();
  ~DeviceOpen();
  DeviceOpen(const DeviceOpen&) = delete;
  DeviceOpen& operator=(const DeviceOpen&) = delete;
};

// Contents of all allocations: what a grid sees that began before an earlier one's stores had arrived.
struct Snapshot {
  std::vector<std::vector<char>> contents;  // in the order of allocation
};
Snapshot take_snapshot();
void put_back(const Snapshot& snapshot);
// Writes to memory those bytes that differ between two snapshots: the stores of who ran in between.
void apply_stores(const Snapshot& before, const Snapshot& after);

}  // namespace emulator
