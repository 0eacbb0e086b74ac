#include "access.h"

#include <array>
#include <memory>
#include <unordered_map>

#include "device_memory.h"
#include "fault.h"
#include "object.h"

namespace emulator {
namespace {

// One access: who, when by its own count, and where in the source.
struct Epoch {
  Grid* grid = nullptr;
  int block = -1;
  int thread = -1;
  uint32_t count = 0;
  bool atomic = false;
  Where where;
};

// What is known of a byte, or of some that were always touched together. Of concurrent readers two are kept; which, is left to chance.
struct Cell {
  Epoch write;
  Epoch read[2];
  const AsyncOperation* writer = nullptr;  // in flight
  const AsyncOperation* reader = nullptr;  // in flight
  int readers = 0;
  bool generic = false;  // last written by a thread rather than through the async proxy
};

// What is known of four bytes together, which is how they are mostly touched, or of each, since they were touched apart.
struct Word {
  Cell whole;
  std::unique_ptr<std::array<Cell, 4>> bytes;
};

constexpr size_t kPage = 256;
using Page = std::array<Word, kPage / sizeof(uint32_t)>;
std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;

struct Found {
  uintptr_t number = 0;
  Page* page = nullptr;
};
std::array<Found, 64> lately_found;  // in `pages`, by the low bits of the number

std::unordered_map<uintptr_t, Clock> released;  // what atomics at an address pass on

// Static shared memory has the same addresses in each block: the block's own copy stands for it.
uintptr_t unique_address(const Block& block, const void* address) {
  const char* p = static_cast<const char*>(address);
  if (p >= static_shared_begin() && p < static_shared_begin() + static_shared_bytes())
    return reinterpret_cast<uintptr_t>(block.static_shared) + (p - static_shared_begin());
  return reinterpret_cast<uintptr_t>(p);
}

Page& page_of(uintptr_t address) {
  const uintptr_t number = address / kPage;
  Found& found = lately_found[number % lately_found.size()];
  if (found.page == nullptr || found.number != number) {
    std::unique_ptr<Page>& page = pages[number];
    if (page == nullptr) page = std::make_unique<Page>();
    found = {number, page.get()};
  }
  return *found.page;
}

// f(cell, offset) for what is known of these bytes; `offset` is that of the first byte that the cell stands for.
template <class F>
void for_each_cell(const Block& block, const void* address, size_t bytes, F&& f) {
  const uintptr_t first = unique_address(block, address), end = first + bytes;
  for (uintptr_t a = first; a < end;) {
    Word& word = page_of(a)[a % kPage / sizeof(uint32_t)];
    const size_t in_word = a % sizeof(uint32_t);
    if (word.bytes == nullptr && in_word == 0 && end - a >= sizeof(uint32_t)) {
      f(word.whole, a - first);
      a += sizeof(uint32_t);
      continue;
    }
    if (word.bytes == nullptr) {
      word.bytes = std::make_unique<std::array<Cell, 4>>();
      word.bytes->fill(word.whole);
    }
    f((*word.bytes)[in_word], a - first);
    ++a;
  }
}

Epoch now(Thread& thread, bool atomic, Where where) {
  return {thread.block->grid, thread.block->id, thread.linear, thread.clock.at(thread.linear), atomic, where};
}

// Whether the earlier access happens before whatever `thread` does now. Of an earlier grid's
// read it is enough that it came before the trigger, stores become visible only at the wait.
bool ordered(const Epoch& earlier, const Thread& thread, bool earlier_is_read) {
  if (earlier.thread < 0) return true;
  if (earlier.grid == thread.block->grid) {
    if (earlier.block == thread.block->id && earlier.thread == thread.linear) return true;
    return earlier.count <= thread.clock.at(earlier.block, earlier.thread);
  }
  if (earlier.grid->id > thread.block->grid->id) return false;
  if (thread.passed_dependency || !thread.block->grid->launch.programmatic) return true;
  const std::vector<uint32_t>& triggers =
      earlier.grid->trigger_counts[earlier.block - earlier.grid->first_block];
  return earlier_is_read && static_cast<size_t>(earlier.thread) < triggers.size() &&
         earlier.count <= triggers[earlier.thread];
}

std::string memory_name(const Block& block, const void* address) {
  const char* p = static_cast<const char*>(address);
  char text[128];
  if (p >= static_shared_begin() && p < static_shared_begin() + static_shared_bytes()) {
    std::snprintf(text, sizeof text, "static shared memory +%td", p - static_shared_begin());
  } else if (p >= block.dynamic_shared && p < block.dynamic_shared + block.grid->launch.dynamic_shared) {
    std::snprintf(text, sizeof text, "dynamic shared memory +%td", p - block.dynamic_shared);
  } else if (const Allocation* allocation = find_allocation(p)) {
    std::snprintf(text, sizeof text, "allocation %d of %zu bytes, +%td", allocation->number,
                  allocation->bytes, p - allocation->begin);
  } else {
    std::snprintf(text, sizeof text, "memory of the program, %p", address);
  }
  return text;
}

[[noreturn]] void report_race(const void* address, bool write, const Epoch& earlier, bool earlier_wrote,
                              Where where) {
  const Thread& thread = self();
  std::string who = "thread " + std::to_string(earlier.thread);
  if (earlier.thread == static_cast<int>(thread.block->threads.size())) who = "an asynchronous copy";
  if (earlier.grid != thread.block->grid)
    who += " of kernel " + kernel_name(earlier.grid->launch.kernel);
  else if (earlier.block != thread.block->id)
    who += " of block " + std::to_string(earlier.block - earlier.grid->first_block);
  const char* missing = earlier.grid != thread.block->grid  ? "griddepcontrol.wait"
                        : earlier.block != thread.block->id ? "fence with an atomic"
                                                            : "barrier";
  fault(Kind::kRace, where, "%s %s, which %s %s at %s, and no %s is between", write ? "writes" : "reads",
        memory_name(*thread.block, address).c_str(), who.c_str(), earlier_wrote ? "wrote" : "read",
        earlier.where.text().c_str(), missing);
}

void note_read(Cell& cell, Thread& thread, bool atomic, Where where) {
  const Epoch epoch = now(thread, atomic, where);
  for (Epoch& other : cell.read) {
    if (!ordered(other, thread, true)) continue;
    other = epoch;
    return;
  }
  cell.read[machine.random.below(2)] = epoch;
}

// Of what the thread knows of its block: what has passed the fence of who did it, and so is visible beyond
// the block.
Clock fenced_by_others(Thread& thread) {
  Clock clock(thread.block->id, thread.block->threads.size() + 1);
  for (const Thread& other : thread.block->threads)
    clock.at(other.linear) = std::min(thread.clock.at(thread.block->id, other.linear), other.fenced_count);
  return clock;
}

// Does not return unless the access is all right. Notes nothing.
void expect_allowed(const Cell& cell, const char* address, Access access, Where where) {
  const Thread& thread = self();
  const bool write = access == Access::kWrite || access == Access::kAtomicWrite;
  const bool atomic = access == Access::kAtomicRead || access == Access::kAtomicWrite;
  const auto in_flight = [&](const AsyncOperation& operation, const char* does) {
    fault(Kind::kInFlight, where, "%s %s, which the %s of %s still %s", write ? "writes" : "reads",
          memory_name(*thread.block, address).c_str(), operation.name, operation.where.text().c_str(), does);
  };
  if (cell.writer != nullptr) in_flight(*cell.writer, "may be writing");
  if (write && cell.readers > 0) in_flight(*cell.reader, "may be reading");
  if (!ordered(cell.write, thread, false) && !(atomic && cell.write.atomic))
    report_race(address, write, cell.write, true, where);
  for (const Epoch& reader : cell.read)
    if (write && !ordered(reader, thread, true) && !(atomic && reader.atomic))
      report_race(address, write, reader, false, where);
}

void check_cell(Cell& cell, const char* address, Access access, Where where) {
  Thread& thread = self();
  const bool write = access == Access::kWrite || access == Access::kAtomicWrite;
  const bool atomic = access == Access::kAtomicRead || access == Access::kAtomicWrite;
  expect_allowed(cell, address, access, where);
  if (!write) {
    note_read(cell, thread, atomic, where);
    return;
  }
  cell.write = now(thread, atomic, where);
  cell.read[0] = cell.read[1] = {};
  cell.generic = true;
}

bool in_program(const char* p) { return p >= own_object().begin && p < own_object().end; }

bool own_stack(const Thread& thread, const char* p) {
  return p >= thread.context.stack && p < thread.context.stack + StackPool::kUsable;
}

bool is_shared(const Block& block, const char* p, size_t bytes) {
  return (p >= block.dynamic_shared &&
          p + bytes <= block.dynamic_shared + block.grid->launch.dynamic_shared) ||
         (p >= static_shared_begin() && p + bytes <= static_shared_begin() + static_shared_bytes());
}

bool is_parameter(const Grid& grid, const char* p) {
  const char* begin = static_cast<const char*>(grid.launch.parameters.get());
  return begin != nullptr && p >= begin && p < begin + grid.launch.parameter_bytes;
}

[[noreturn]] void report_bounds(const char* p, size_t bytes, bool write, Where where) {
  const Block& block = *self().block;
  const char* verb = write ? "writes" : "reads";
  if (machine.stacks.contains(p))
    fault(Kind::kHostMemory, where, "%s %zu bytes of another thread's local memory", verb, bytes);
  const ptrdiff_t past = p - block.dynamic_shared;
  if (past > -4096 && past < static_cast<ptrdiff_t>(block.grid->launch.dynamic_shared) + 4096)
    fault(Kind::kOutOfBounds, where, "%s %zu bytes at +%td of %zu bytes of dynamic shared memory", verb,
          bytes, past, block.grid->launch.dynamic_shared);
  if (!in_device_arena(p) && find_allocation(p) == nullptr)
    fault(Kind::kHostMemory, where, "%s %zu bytes at %p, which is neither device nor shared memory", verb,
          bytes, p);
  const Allocation* allocation = find_allocation(p);
  if (allocation == nullptr)
    fault(Kind::kOutOfBounds, where, "%s %zu bytes before the first allocation", verb, bytes);
  fault(Kind::kOutOfBounds, where, "%s %zu bytes at +%td of allocation %d, which has %zu bytes%s", verb,
        bytes, p - allocation->begin, allocation->number, allocation->bytes,
        allocation->freed ? " and was freed" : allocation->reachable ? "" : " and was not made resident");
}

}  // namespace

void check_bounds(const void* address, size_t bytes, bool write, Where where) {
  const char* p = static_cast<const char*>(address);
  const Thread& thread = self();
  if (own_stack(thread, p) || is_shared(*thread.block, p, bytes) || in_program(p)) return;
  if (!write && is_parameter(*thread.block->grid, p)) return;
  if (is_allocated(p, bytes)) return;
  report_bounds(p, bytes, write, where);
}

void check_access(const void* address, size_t bytes, Access access, Where where) {
  const char* p = static_cast<const char*>(address);
  Thread& thread = self();
  if (own_stack(thread, p)) return;
  const bool write = access == Access::kWrite || access == Access::kAtomicWrite;
  if ((bytes & (bytes - 1)) == 0 && reinterpret_cast<uintptr_t>(p) % bytes != 0)
    fault(Kind::kMisaligned, where, "%s %zu bytes at an address that is %zu modulo %zu",
          write ? "writes" : "reads", bytes, static_cast<size_t>(reinterpret_cast<uintptr_t>(p) % bytes),
          bytes);
  check_bounds(p, bytes, write, where);
  if (is_parameter(*thread.block->grid, p) || (in_program(p) && !is_shared(*thread.block, p, bytes))) return;
  for_each_cell(*thread.block, p, bytes, [&](Cell& cell, size_t offset) { check_cell(cell, p + offset, access, where); });
}

void begin_async_write(const void* address, size_t bytes, const AsyncOperation& operation) {
  const char* p = static_cast<const char*>(address);
  for_each_cell(*self().block, address, bytes, [&](Cell& cell, size_t offset) {
    check_cell(cell, p + offset, Access::kWrite, operation.where);
    cell.writer = &operation;
  });
}

void end_async_write(Thread& thread, const void* address, size_t bytes, Where where) {
  for_each_cell(*thread.block, address, bytes, [&](Cell& cell, size_t) {
    cell.writer = nullptr;
    cell.write = now(thread, false, where);
  });
}

void end_async_write(Block& block, const void* address, size_t bytes, Where where) {
  const auto agent = static_cast<int>(block.threads.size());
  for_each_cell(block, address, bytes, [&](Cell& cell, size_t) {
    cell.writer = nullptr;
    cell.write = {block.grid, block.id, agent, block.agent_count, false, where};
    cell.generic = false;
  });
}

void begin_async_read(const void* address, size_t bytes, const AsyncOperation& operation) {
  Thread& thread = self();
  const char* p = static_cast<const char*>(address);
  for_each_cell(*thread.block, address, bytes, [&](Cell& cell, size_t offset) {
    expect_allowed(cell, p + offset, Access::kRead, operation.where);
    const Epoch& write = cell.write;
    if (cell.generic && write.block == thread.block->id && write.thread >= 0 &&
        write.count >= thread.block->threads[write.thread].proxy_fenced)
      fault(Kind::kProxyFence, operation.where,
            "%s reads %s, which thread %d wrote at %s with no fence.proxy.async after it", operation.name,
            memory_name(*thread.block, address).c_str(), write.thread, write.where.text().c_str());
    cell.reader = &operation;
    ++cell.readers;
  });
}

void end_async_read(Block& block, const void* address, size_t bytes, Where where) {
  const auto agent = static_cast<int>(block.threads.size());
  for_each_cell(block, address, bytes, [&](Cell& cell, size_t) {
    --cell.readers;
    cell.read[machine.random.below(2)] = {block.grid, block.id, agent, block.agent_count, false, where};
  });
}

void atomic_order(const void* address, bool writes) {
  Thread& thread = self();
  Clock& clock = released[unique_address(*thread.block, address)];
  if (!clock.empty()) thread.clock.join(clock);
  if (writes && thread.fenced) clock.join(*thread.fenced);
  if (writes) clock.join(fenced_by_others(thread));
}

void forget_accesses(const void* memory, size_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(memory);
  lately_found = {};
  for (uintptr_t a = first / kPage; a <= (first + bytes) / kPage; ++a) pages.erase(a);
  for (uintptr_t a = first; a < first + bytes && !released.empty(); ++a) released.erase(a);
}

void forget_accesses() {
  lately_found = {};
  pages.clear();
  released.clear();
}

}  // namespace emulator
