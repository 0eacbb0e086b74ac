// Tensor memory: who has it, copies to it and loads from it; and the order of all that touches it.
#include "tensor_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "../core/access.h"
#include "../core/collective.h"
#include "../core/fault.h"
#include "cuda_runtime.h"
#include "emulated/shared.cuh"
#include "emulated/tensor_memory.cuh"
#include "tcgen05_tile.h"

namespace emulator {
namespace {

constexpr uint32_t kPoison = 0xffffffff;

// By the last thread of a block.
void expect_left_empty(const TensorMemory& memory) {
  for (const auto& [first, allocation] : memory.allocations)
    fault(Kind::kInstruction, allocation.where, "the kernel ends with %d columns of tensor memory that it has not given back",
          allocation.columns);
  if (memory.unfinished != 0)
    fault(Kind::kInFlight, Where(), "the kernel ends with %d tcgen05 operations or commits that nobody has waited for",
          memory.unfinished);
}

// Whether the current thread may take it that the operation is done.
bool is_done(const TensorMemory& memory, const TensorOperation& operation) {
  if (!operation.done) return false;
  const Thread& thread = self();
  const Clock& known = memory.threads[thread.linear].known;
  if (operation.kind != TensorOperation::Kind::kLoad)
    return !known.empty() && known.at(memory.block.id, memory.block.threads.size()) >= operation.count;
  if (thread.linear / kQuarterLanes == operation.thread / kQuarterLanes) return true;  // its own warp has waited
  for (size_t i = 0; i < operation.released.size(); ++i)
    if (operation.released[i] == 0 || known.empty() || known.at(memory.block.id, operation.thread + i) < operation.released[i])
      return false;
  return true;
}

// Whether `later` comes behind it without waiting.
bool is_pipelined(const TensorMemory& memory, const TensorOperation& operation, const TensorOperation& later) {
  using Kind = TensorOperation::Kind;
  if (later.kind != Kind::kProduct || operation.kind == Kind::kLoad) return false;
  if (operation.kind == Kind::kProduct && (operation.sums != later.sums || operation.shape != later.shape)) return false;
  if (operation.thread == later.thread) return true;
  const Clock& known = memory.threads[later.thread].known;
  return operation.released[0] != 0 && !known.empty() && known.at(memory.block.id, operation.thread) >= operation.released[0];
}

void come_behind(TensorMemory& memory, TensorOperation& later, const TensorOperationPointer& earlier, int column, const char* does,
                 const char* name, Site site) {
  if (is_done(memory, *earlier)) return;
  if (!is_pipelined(memory, *earlier, later))
    fault(Kind::kInFlight, Where::of(site),
          "%s %s column %d of tensor memory, which the %s of %s may still be using: its completion was not waited for, or no "
          "tcgen05.fence::after_thread_sync came behind",
          name, does, column, earlier->async->name, earlier->async->where.text().c_str());
  if (!earlier->async->landed && std::find(later.before.begin(), later.before.end(), earlier) == later.before.end())
    later.before.push_back(earlier);
}

}  // namespace

TensorMemory::TensorMemory(Block& block)
    : block(block), cells(kTensorLanes * kTensorColumns, kPoison), places(kTensorQuarters * kTensorColumns), threads(block.threads.size()) {}

TensorMemory& tensor_memory() {
  Block& block = *self().block;
  if (block.tensor_memory == nullptr) {
    block.tensor_memory = std::make_shared<TensorMemory>(block);
    block.last_check = [memory = block.tensor_memory.get()] { expect_left_empty(*memory); };
  }
  return *block.tensor_memory;
}

TensorOperationPointer make_operation(TensorOperation::Kind kind, const char* name, Where where, int threads) {
  auto operation = std::make_shared<TensorOperation>();
  operation->kind = kind;
  operation->thread = self().linear / threads * threads;
  operation->released.resize(threads, 0);
  operation->async->name = name;
  operation->async->where = where;
  return operation;
}

void touch(TensorMemory& memory, const TensorOperationPointer& operation, const Touch& touch, const char* name, Site site) {
  const int lane = static_cast<int>(touch.address >> 16), first = static_cast<int>(touch.address & 0xffff);
  if (lane != std::max(touch.quarter, 0) * kQuarterLanes)
    fault(Kind::kInstruction, Where::of(site), "%s: the address names lane %d of tensor memory, and not %d", name, lane,
          std::max(touch.quarter, 0) * kQuarterLanes);
  const auto allocated = std::find_if(memory.allocations.begin(), memory.allocations.end(), [&](const auto& entry) {
    return entry.first <= first && first + touch.columns <= entry.first + entry.second.columns;
  });
  if (allocated == memory.allocations.end())
    fault(Kind::kOutOfBounds, Where::of(site), "%s: columns %d to %d of tensor memory are not allocated together", name, first,
          first + touch.columns - 1);
  const TensorMemory::Allocation& allocation = allocated->second;
  if (self().linear != allocation.thread && self().clock.at(memory.block.id, allocation.thread) < allocation.count)
    fault(Kind::kRace, Where::of(site), "%s uses tensor memory that was allocated at %s, and no barrier is between", name,
          allocation.where.text().c_str());
  for (int quarter = 0; quarter < kTensorQuarters; ++quarter) {
    if (touch.quarter >= 0 && quarter != touch.quarter) continue;
    for (int column = first; column < first + touch.columns; ++column) {
      TensorMemory::Place& place = memory.places[quarter * kTensorColumns + column];
      const char* does = touch.write ? "writes" : "reads";
      if (place.writer) come_behind(memory, *operation, place.writer, column, does, name, site);
      if (touch.write) {
        for (const TensorOperationPointer& reader : place.readers) come_behind(memory, *operation, reader, column, does, name, site);
        place.readers.clear();
        place.writer = operation;
      } else {
        place.readers.push_back(operation);
      }
    }
  }
}

void start(TensorMemory& memory, const TensorOperationPointer& operation) {
  ++memory.unfinished;
  for (size_t i = 0; i < operation->released.size(); ++i) memory.threads[operation->thread + i].started.push_back(operation);
  start(memory.block, operation->async);
}

}  // namespace emulator

namespace gptoss::ptx {
namespace {

using namespace ::emulator;
using emulator::start;

// --- Allocation, by one warp

struct Request {
  uint32_t* shared;
  uint32_t address;
  int columns;
  Site site;
};

void expect_columns(const Request& request, const char* name) {
  if (request.columns < 32 || request.columns > kTensorColumns || !std::has_single_bit(static_cast<unsigned>(request.columns)))
    fault(Kind::kInstruction, Where::of(request.site), "%s: %d columns, not a power of two from 32 to %d", name, request.columns,
          kTensorColumns);
}
void expect_same(Participants& warp, const char* name) {
  const Request& first = warp.operand<Request>(0);
  for (int lane = 1; lane < warp.size; ++lane) {
    const Request& other = warp.operand<Request>(lane);
    if (other.columns != first.columns || other.address != first.address || other.shared != first.shared)
      fault(Kind::kInstruction, Where::of(first.site), "%s: the operands of lanes 0 and %d differ", name, lane);
  }
}

// Where it is, chance decides: another block may have been there first.
void apply_alloc(Participants& warp) {
  TensorMemory& memory = tensor_memory();
  const Request& request = warp.operand<Request>(0);
  expect_same(warp, "tcgen05.alloc");
  expect_columns(request, "tcgen05.alloc");
  if (memory.relinquished)
    fault(Kind::kInstruction, Where::of(request.site), "tcgen05.alloc: the block has relinquished its permit");
  if (request.columns > memory.last_columns)
    fault(Kind::kInstruction, Where::of(request.site), "tcgen05.alloc: %d columns, more than the %d of the time before",
          request.columns, memory.last_columns);
  std::vector<int> free;
  for (int first = 0; first + request.columns <= kTensorColumns; first += 32) {
    const bool taken = std::any_of(memory.allocations.begin(), memory.allocations.end(), [&](const auto& entry) {
      return first < entry.first + entry.second.columns && entry.first < first + request.columns;
    });
    if (!taken) free.push_back(first);
  }
  if (free.empty())
    fault(Kind::kDeadlock, Where::of(request.site), "tcgen05.alloc waits for %d columns that only this block could give back",
          request.columns);
  const int first = free[machine.random.below(static_cast<uint32_t>(free.size()))];
  const Thread& thread = *warp.thread[0];
  memory.allocations[first] = {request.columns, thread.linear, thread.clock.at(memory.block.id, thread.linear), Where::of(request.site)};
  memory.last_columns = request.columns;
  const uint32_t address = static_cast<uint32_t>(first);
  std::memcpy(request.shared, &address, sizeof address);
}

void apply_relinquish(Participants&) { tensor_memory().relinquished = true; }

// Everything that has used the columns is done.
void apply_dealloc(Participants& warp) {
  TensorMemory& memory = tensor_memory();
  const Request& request = warp.operand<Request>(0);
  expect_same(warp, "tcgen05.dealloc");
  const auto found = memory.allocations.find(static_cast<int>(request.address));
  if (found == memory.allocations.end() || found->second.columns != request.columns)
    fault(Kind::kInstruction, Where::of(request.site), "tcgen05.dealloc: no %d columns were allocated at 0x%x", request.columns,
          request.address);
  const auto all = make_operation(TensorOperation::Kind::kCopy, "tcgen05.dealloc", Where::of(request.site));
  touch(memory, all, {request.address, request.columns, true}, "tcgen05.dealloc", request.site);
  for (int quarter = 0; quarter < kTensorQuarters; ++quarter)
    for (int column = 0; column < request.columns; ++column)
      memory.places[quarter * kTensorColumns + found->first + column] = {};
  for (int lane = 0; lane < kTensorLanes; ++lane)
    std::fill_n(&memory.cell(lane, found->first), request.columns, kPoison);
  memory.allocations.erase(found);
}

// --- Loads: a warp's quarter, 32 columns. The registers are not a number until they were waited for.

struct LoadOperand {
  float* values;
  uint32_t address;
  Site site;
};

void apply_load(Participants& warp) {
  constexpr int kColumns = 32;
  TensorMemory& memory = tensor_memory();
  const LoadOperand& first = warp.operand<LoadOperand>(0);
  for (int lane = 1; lane < warp.size; ++lane)
    if (warp.operand<LoadOperand>(lane).address != first.address)
      fault(Kind::kInstruction, Where::of(first.site), "tcgen05.ld: the addresses of lanes 0 and %d differ", lane);
  const int quarter = warp.first / warp.size % kTensorQuarters, column = static_cast<int>(first.address & 0xffff);
  const auto operation = make_operation(TensorOperation::Kind::kLoad, "tcgen05.ld", Where::of(first.site), warp.size);
  touch(memory, operation, {first.address, kColumns, false, quarter}, "tcgen05.ld", first.site);
  auto loaded = std::make_shared<std::vector<uint32_t>>();
  operation->async->land = [&memory, loaded, quarter, column] {
    for (int lane = 0; lane < kQuarterLanes; ++lane) {
      const uint32_t* cells = &memory.cell(quarter * kQuarterLanes + lane, column);
      loaded->insert(loaded->end(), cells, cells + kColumns);
    }
  };
  std::vector<float*> registers;
  for (int lane = 0; lane < warp.size; ++lane) {
    registers.push_back(warp.operand<LoadOperand>(lane).values);
    std::fill_n(registers.back(), kColumns, std::numeric_limits<float>::quiet_NaN());
  }
  operation->async->release = [loaded, registers] {
    for (size_t lane = 0; lane < registers.size(); ++lane)
      std::memcpy(registers[lane], loaded->data() + lane * kColumns, kColumns * sizeof(float));
  };
  start(memory, operation);
}

void apply_wait_load(Participants& warp) {
  TensorMemory& memory = tensor_memory();
  for (const TensorOperationPointer& operation : memory.threads[warp.first].started) {
    if (operation->kind != TensorOperation::Kind::kLoad || operation->done) continue;
    complete(*operation->async);
    operation->async->release();
    operation->done = true;
    --memory.unfinished;
  }
}

}  // namespace

void tensor_alloc(uint32_t* shared, int columns, Site site) {
  const Inside inside;
  static const Collective kAlloc{"tcgen05.alloc", Scope::kWarp, apply_alloc};
  ::emulator::shared_address(shared, sizeof *shared, "tcgen05.alloc", site);
  if (self().lane == 0) check_access(shared, sizeof *shared, Access::kWrite, Where::of(site));
  Request request{shared, 0, columns, site};
  collect(kAlloc, 0, &request, site);
}

void tensor_relinquish(Site site) {
  const Inside inside;
  static const Collective kRelinquish{"tcgen05.relinquish_alloc_permit", Scope::kWarp, apply_relinquish};
  collect(kRelinquish, 0, nullptr, site);
}

void tensor_dealloc(uint32_t address, int columns, Site site) {
  const Inside inside;
  static const Collective kDealloc{"tcgen05.dealloc", Scope::kWarp, apply_dealloc};
  Request request{nullptr, address, columns, site};
  collect(kDealloc, 0, &request, site);
}

void tensor_copy_32x128b(uint32_t address, uint64_t descriptor, Site site) {
  constexpr int kRows = kQuarterLanes, kWords = 4;
  const Inside inside;
  TensorMemory& memory = tensor_memory();
  const TileOfTcgen05 tile{decode_tcgen05(descriptor, "tcgen05.cp", site), kRows, 1};
  const auto operation = make_operation(TensorOperation::Kind::kCopy, "tcgen05.cp", Where::of(site));
  touch(memory, operation, {address, kWords, true}, "tcgen05.cp", site);
  const int column = static_cast<int>(address & 0xffff);
  operation->async->land = [&memory, tile, column, site] {
    for_each_unit(memory.block, tile, "tcgen05.cp", site, [&](int row, int, const char* bytes) {
      for (int quarter = 0; quarter < kTensorQuarters; ++quarter)
        std::memcpy(&memory.cell(quarter * kQuarterLanes + row, column), bytes, kWords * sizeof(uint32_t));
    });
  };
  read_until_done(memory.block, {tile}, *operation->async, site);
  start(memory, operation);
}

void tensor_load_32x32b_x32(float (&values)[32], uint32_t address, Site site) {
  const Inside inside;
  static const Collective kLoad{"tcgen05.ld", Scope::kWarp, apply_load};
  LoadOperand operand{values, address, site};
  collect(kLoad, 0, &operand, site);
}

void tensor_wait_load(Site site) {
  const Inside inside;
  static const Collective kWait{"tcgen05.wait::ld", Scope::kWarp, apply_wait_load};
  collect(kWait, 0, nullptr, site);
}

}  // namespace gptoss::ptx
