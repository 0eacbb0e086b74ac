// wgmma: products of a warpgroup, which run behind the program's back and in order.
//
// From the first product on, the accumulators are the tensor cores': what the program finds in its registers
// is NaN until it has waited, and what it writes there is lost. The tiles in shared memory are being read
// until then, and so are the registers of A: whoever has written them when the wait is over is told.
#include "emulated/wgmma.cuh"

#include <limits>

#include "../core/access.h"
#include "../core/collective.h"
#include "../core/fault.h"
#include "cuda_runtime.h"
#include "emulated/shared.cuh"

namespace {

using namespace emulator;

constexpr int kRows = 64, kDepth = 16;

// --- Tiles in shared memory, as a descriptor says.

struct Descriptor {
  uint32_t start, leading, stride, swizzle;  // bytes
};

Descriptor decode(uint64_t bits, Site site) {
  constexpr uint32_t kSwizzle[] = {0, 128, 64, 32};
  if ((bits >> 49 & 7) != 0)
    fault(Kind::kInstruction, Where::of(site), "wgmma: the emulator has no base offset in descriptors");
  const uint32_t start = static_cast<uint32_t>(bits & 0x3fff) << 4, swizzle = kSwizzle[bits >> 62];
  if (swizzle != 0 && (start >> 7 & (swizzle / 16 - 1)) != 0)
    fault(Kind::kInstruction, Where::of(site),
          "wgmma: a tile at shared address 0x%x, not a multiple of the %u bytes after "
          "which its swizzle repeats",
          start, swizzle * 8);
  return {start, static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4,
          static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4, swizzle};
}

struct Tile {
  Descriptor descriptor;
  int rows;                    // of n or m; or,
  bool rows_are_of_k = false;  // with the ISA's transposition, rows of k: `rows` is how long they are
};

// Eight elements that lie side by side, 16 bytes: where they are. Groups of eight rows are `stride` apart; a row that is
// longer than the swizzle goes on `leading` behind.
uint32_t unit_address(const Descriptor& d, int row, int unit) {
  const uint32_t group = d.start + row / 8 * d.stride;
  if (d.swizzle == 0) return group + unit * d.leading + row % 8 * 16;
  const uint32_t units = d.swizzle / 16;
  const uint32_t address = group + unit / units * d.leading + row % 8 * d.swizzle + unit % units * 16;
  return address ^ ((address >> 7 & (units - 1)) << 4);
}

template <class F>
void for_each_unit(Block& block, const Tile& tile, Site site, F&& f) {
  const int rows = tile.rows_are_of_k ? kDepth : tile.rows, columns = tile.rows_are_of_k ? tile.rows : kDepth;
  for (int row = 0; row < rows; ++row)
    for (int unit = 0; unit < columns / 8; ++unit)
      f(row, unit, shared_pointer(block, unit_address(tile.descriptor, row, unit), 16, "wgmma", site));
}

// As (rows, kDepth), however it lies.
void read_tile(Block& block, const Tile& tile, float* values, Site site) {
  for_each_unit(block, tile, site, [&](int row, int unit, const char* bytes) {
    for (int i = 0; i < 8; ++i) {
      uint16_t bits;
      std::memcpy(&bits, bytes + 2 * i, sizeof bits);
      const int column = unit * 8 + i;
      values[tile.rows_are_of_k ? column * kDepth + row : row * kDepth + column] =
          std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
    }
  });
}

// --- One product, for all 128 threads.

struct Operand {  // of one thread
  int n;
  float* d;
  bool first;  // d is overwritten
  const uint32_t* a_registers;
  uint64_t a, b;
  bool rows;  // b's rows are those of k
  Site site;
};

struct Work {  // of the warpgroup, kept until it lands
  int n = 0;
  bool first = false;
  Tile a{}, b{};
  bool a_in_registers = false;
  std::vector<float> a_values;
  std::vector<const uint32_t*> a_registers;  // and what they held when the product began
  std::vector<uint32_t> a_bits;
  std::vector<float*> accumulators;
  AsyncPointer before;
  Site site;
};

// The fragment of mma.sync, 16 rows for each warp.
void take_a_from_registers(Work& work, Participants& group) {
  work.a_values.resize(kRows * kDepth);
  for (int thread = 0; thread < 128; ++thread) {
    const int g = thread % 32 / 4, t = thread % 4, first_row = thread / 32 * 16;
    const uint32_t* registers = group.operand<Operand>(thread).a_registers;
    work.a_registers.push_back(registers);
    work.a_bits.insert(work.a_bits.end(), registers, registers + 4);
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        const uint32_t pair = registers[i];
        work.a_values[(first_row + g + i % 2 * 8) * kDepth + 2 * t + half + i / 2 * 8] =
            std::bit_cast<float>((pair >> (16 * half)) << 16);
      }
  }
}

// They are the tensor cores' until the program has waited.
void look_at_a_registers(const Work& work) {
  for (size_t thread = 0; thread < work.a_registers.size(); ++thread)
    if (!std::equal(work.a_registers[thread], work.a_registers[thread] + 4, &work.a_bits[4 * thread]))
      fault(Kind::kInFlight, Where::of(work.site),
            "wgmma: thread %zu of the warpgroup has overwritten the registers of A before it waited for the product", thread);
}

void multiply(Block& block, Warpgroup& warpgroup, Work& work) {
  if (work.before) complete(*work.before);  // in order
  work.before = nullptr;
  std::vector<float> a(kRows * kDepth), b(static_cast<size_t>(work.n) * kDepth);
  if (work.a_in_registers)
    a = work.a_values;
  else
    read_tile(block, work.a, a.data(), work.site);
  read_tile(block, work.b, b.data(), work.site);
  for (int thread = 0; thread < 128; ++thread) {
    Accumulators& held = warpgroup.held[work.accumulators[thread]];
    for (int i = 0; i < work.n / 2; ++i) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + i / 2 % 2 * 8,
                column = i / 4 * 8 + thread % 4 * 2 + i % 2;
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += a[row * kDepth + k] * b[column * kDepth + k];
      held.values[i] = work.first ? sum : held.values[i] + sum;
    }
    if (--held.users > 0) continue;
    std::copy(held.values.begin(), held.values.end(), work.accumulators[thread]);
    warpgroup.held.erase(work.accumulators[thread]);
  }
}

// The registers are the tensor cores' from now on.
void hold_accumulators(Warpgroup& warpgroup, Participants& group) {
  for (int thread = 0; thread < 128; ++thread) {
    const Operand& operand = group.operand<Operand>(thread);
    Accumulators& held = warpgroup.held[operand.d];
    if (held.users++ > 0) continue;
    if (!warpgroup.fenced)
      fault(Kind::kInFlight, Where::of(operand.site),
            "wgmma: the accumulators were the program's, and no wgmma.fence "
            "came after that");
    held.values.assign(operand.d, operand.d + operand.n / 2);
    std::fill_n(operand.d, operand.n / 2, std::numeric_limits<float>::quiet_NaN());
  }
}

void apply_product(Participants& group) {
  Block& block = *group.block;
  Warpgroup& warpgroup = block.warpgroups[group.first / 128];
  const Operand& first = group.operand<Operand>(0);
  for (int thread = 1; thread < 128; ++thread) {
    const Operand& other = group.operand<Operand>(thread);
    if (other.a != first.a || other.b != first.b)
      fault(Kind::kInstruction, Where::of(first.site),
            "wgmma: the descriptors of threads 0 and %d of the warpgroup differ", thread);
  }
  auto work = std::make_shared<Work>();
  work->n = first.n;
  work->first = first.first;
  work->b = {decode(first.b, first.site), first.n, first.rows};
  if (first.rows && work->b.descriptor.swizzle == 0)
    fault(Kind::kInstruction, Where::of(first.site), "wgmma: the emulator has no tiles with rows of k without a swizzle");
  work->a_in_registers = first.a_registers != nullptr;
  work->site = first.site;
  work->before = warpgroup.newest;
  if (work->a_in_registers)
    take_a_from_registers(*work, group);
  else
    work->a = {decode(first.a, first.site), kRows};
  for (int thread = 0; thread < 128; ++thread) work->accumulators.push_back(group.operand<Operand>(thread).d);
  hold_accumulators(warpgroup, group);

  auto operation = std::make_shared<AsyncOperation>();
  operation->name = "wgmma";
  operation->where = Where::of(first.site);
  operation->land = [&block, &warpgroup, work] { multiply(block, warpgroup, *work); };
  const auto mark = [&](int, int, char* bytes) { begin_async_read(bytes, 16, *operation); };
  if (!work->a_in_registers) for_each_unit(block, work->a, first.site, mark);
  for_each_unit(block, work->b, first.site, mark);
  operation->release = [&block, work] {
    look_at_a_registers(*work);
    const auto unmark = [&](int, int, char* bytes) {
      end_async_read(block, bytes, 16, Where::of(work->site));
    };
    if (!work->a_in_registers) for_each_unit(block, work->a, work->site, unmark);
    for_each_unit(block, work->b, work->site, unmark);
  };
  warpgroup.newest = operation;
  warpgroup.open.push_back(operation);
  start(block, std::move(operation));
}

// --- Fence, commit, wait

void apply_fence(Participants& group) { group.block->warpgroups[group.first / 128].fenced = true; }

void apply_commit(Participants& group) {
  Warpgroup& warpgroup = group.block->warpgroups[group.first / 128];
  warpgroup.committed.push_back(std::move(warpgroup.open));
  warpgroup.open.clear();
}

void apply_wait(Participants& group) {
  Warpgroup& warpgroup = group.block->warpgroups[group.first / 128];
  const auto pending = static_cast<size_t>(group.operand<int>(0));
  const uint32_t now = ++group.block->agent_count;
  while (warpgroup.committed.size() > pending) {
    for (const AsyncPointer& product : warpgroup.committed.front()) {
      complete(*product);
      product->release();
    }
    warpgroup.committed.pop_front();
  }
  warpgroup.fenced = false;
  for (int i = 0; i < group.size; ++i) group.thread[i]->clock.at(group.block->threads.size()) = now;
}

void collect_warpgroup(const Collective& collective, void* operand, Site site) {
  const Inside inside;
  Block& block = *self().block;
  if (block.threads.size() < static_cast<size_t>(self().linear / 128 * 128 + 128))
    fault(Kind::kInstruction, Where::of(site),
          "%s: the last warpgroup of this block has fewer than 128 threads", collective.name);
  if (block.warpgroups.empty()) block.warpgroups.resize(block.threads.size() / 128);
  collect(collective, 0, operand, site);
}

}  // namespace

namespace gptoss::ptx {

void wgmma_fence(Site site) {
  static const Collective kFence{"wgmma.fence", Scope::kWarpgroup, apply_fence};
  collect_warpgroup(kFence, nullptr, site);
}

void wgmma_commit_group(Site site) {
  static const Collective kCommit{"wgmma.commit_group", Scope::kWarpgroup, apply_commit};
  collect_warpgroup(kCommit, nullptr, site);
}

void wgmma_wait_group(int pending, Site site) {
  static const Collective kWait{"wgmma.wait_group", Scope::kWarpgroup, apply_wait};
  collect_warpgroup(kWait, &pending, site);
}

void wgmma_m64k16_bf16(int n, float* d, bool first, const uint32_t* a_registers, uint64_t a, uint64_t b, bool rows,
                       Site site) {
  const Inside inside;
  static const Collective kProduct{"wgmma", Scope::kWarpgroup, apply_product};
  Operand operand{n, d, first, a_registers, a, b, rows, site};
  collect_warpgroup(kProduct, &operand, site);
}

}  // namespace gptoss::ptx
