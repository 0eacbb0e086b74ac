// tcgen05: block-scaled products of one thread, commits, fences. Descriptors are decoded by the tables of the PTX ISA.
#include "emulated/tcgen05.cuh"

#include <bit>
#include <cstring>

#include "../core/access.h"
#include "../core/fault.h"
#include "block_scale.h"
#include "cuda_runtime.h"
#include "emulated/shared.cuh"
#include "mbarrier.h"
#include "tcgen05_tile.h"
#include "tensor_memory.h"

namespace emulator {

SharedTile decode_tcgen05(uint64_t bits, const char* name, Site site) {
  const auto field = [&](int first, int count) { return static_cast<uint32_t>(bits >> first & ((uint64_t{1} << count) - 1)); };
  const auto refuse = [&](const char* why) { fault(Kind::kInstruction, Where::of(site), "%s: a descriptor %s", name, why); };
  if (field(14, 2) != 0 || field(30, 2) != 0 || field(53, 8) != 0) refuse("with reserved bits that are not 0");
  if (field(46, 3) != 1) refuse("whose bits 46 to 48 are not 0b001");
  if (field(49, 3) != 0) refuse("with a base offset, which the emulator has not");
  if (field(52, 1) != 0) refuse("with an absolute leading address, which sm_103a has");
  uint32_t swizzle = 0;
  switch (field(61, 3)) {
    case 0: break;
    case 2: swizzle = 128; break;
    case 4: swizzle = 64; break;
    case 6: swizzle = 32; break;
    default: refuse("with a swizzle that is none, or that the emulator has not");
  }
  const SharedTile tile{field(0, 14) << 4, field(16, 14) << 4, field(32, 14) << 4, swizzle};
  if (!begins_with_pattern(tile)) refuse("of a tile in the middle of its swizzle's pattern");
  return tile;
}

void read_until_done(Block& block, const std::vector<TileOfTcgen05>& tiles, AsyncOperation& operation, Site site) {
  for (const TileOfTcgen05& tile : tiles)
    for_each_unit(block, tile, operation.name, site, [&](int, int, const char* bytes) { begin_async_read(bytes, 16, operation); });
  operation.release = [&block, tiles, name = operation.name, site] {
    for (const TileOfTcgen05& tile : tiles)
      for_each_unit(block, tile, name, site, [&](int, int, const char* bytes) { end_async_read(block, bytes, 16, Where::of(site)); });
  };
}

}  // namespace emulator

namespace gptoss::ptx {
namespace {

using namespace ::emulator;
using emulator::start;

// --- Products

constexpr int kRows = 128, kDepth = 32, kUnits = 2;  // of 16 elements each
enum Format : uint32_t { kE4m3 = 0, kE2m1 = 5 };

// Table 43 of the PTX ISA.
struct What {
  int columns;
  uint32_t format_a, format_b, byte_a, byte_b;  // of a word of scales
  bool negate_a, negate_b;
};
What decode_what(uint32_t bits, Site site) {
  const auto field = [&](int first, int count) { return bits >> first & ((1u << count) - 1); };
  const auto refuse = [&](const char* why) { fault(Kind::kInstruction, Where::of(site), "tcgen05.mma: an instruction descriptor %s", why); };
  if (field(0, 2) != 0 || field(3, 1) != 0 || field(6, 1) != 0 || field(24, 3) != 0 || field(31, 1) != 0)
    refuse("with reserved bits that are not 0");
  if (field(2, 1) != 0) refuse("of a sparse product, which the emulator has not");
  if (field(15, 2) != 0) refuse("with a transposed matrix, which the emulator has not");
  if (field(23, 1) != 1) refuse("without scales of e8m0");
  if (field(27, 2) != 1) refuse("whose M is not 128");
  const What what{static_cast<int>(field(17, 6)) * 8, field(7, 3), field(10, 3), field(29, 2), field(4, 2), field(13, 1) != 0, field(14, 1) != 0};
  if (what.columns < 8 || what.columns > 256) refuse("whose N is not one of 8, 16, ... 256");
  for (uint32_t format : {what.format_a, what.format_b})
    if (format != kE4m3 && format != kE2m1) refuse("with other formats than e4m3 and e2m1, which are those that the emulator has");
  return what;
}

// Of e2m1 the first eight bytes of a unit have the codes of 16 elements, the lower half of a byte first.
std::vector<float> read_tile(Block& block, const TileOfTcgen05& tile, uint32_t format, bool negate, Site site) {
  std::vector<float> values(static_cast<size_t>(tile.rows) * kDepth);
  for_each_unit(block, tile, "tcgen05.mma", site, [&](int row, int unit, const char* bytes) {
    for (int i = 0; i < 16; ++i) {
      const auto byte = static_cast<uint8_t>(bytes[format == kE2m1 ? i / 2 : i]);
      const float value = format == kE2m1 ? e2m1_value(byte >> (4 * (i % 2)) & 15) : e4m3_value(byte);
      values[row * kDepth + unit * 16 + i] = negate ? -value : value;
    }
  });
  return values;
}

struct Work {
  What what;
  TileOfTcgen05 a, b;
  int sums, a_scales, b_scales;  // columns of tensor memory
  bool add;
  Site site;
};

void multiply(TensorMemory& memory, const Work& work) {
  const What& what = work.what;
  const std::vector<float> a = read_tile(memory.block, work.a, what.format_a, what.negate_a, work.site);
  const std::vector<float> b = read_tile(memory.block, work.b, what.format_b, what.negate_b, work.site);
  // The part of the tensor core that has a quarter of the sums reads the scales of that quarter.
  const auto scale = [&](int quarter, int first, int row, uint32_t byte) {
    return memory.cell(quarter * kQuarterLanes + row % kQuarterLanes, first + row / kQuarterLanes) >> (8 * byte) & 255;
  };
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < what.columns; ++column) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += a[row * kDepth + k] * b[column * kDepth + k];
      const int quarter = row / kQuarterLanes;
      sum = scaled(sum, scale(quarter, work.a_scales, row, what.byte_a), scale(quarter, work.b_scales, column, what.byte_b));
      uint32_t& cell = memory.cell(row, work.sums + column);
      cell = std::bit_cast<uint32_t>(work.add ? std::bit_cast<float>(cell) + sum : sum);
    }
}

// A commit has landed: who waits for its mbarrier knows that the operation is done.
void finish(TensorMemory& memory, TensorOperation& operation) {
  if (operation.done) return;
  operation.async->release();
  operation.done = true;
  operation.count = memory.block.agent_count;
  --memory.unfinished;
}

}  // namespace

void tcgen05_mma_block_scaled(uint32_t d, uint64_t a, uint64_t b, uint32_t bits, uint32_t a_scales, uint32_t b_scales, bool add,
                              Site site) {
  const char* const name = "tcgen05.mma";
  const Inside inside;
  TensorMemory& memory = tensor_memory();
  const What what = decode_what(bits, site);
  const auto operation = make_operation(TensorOperation::Kind::kProduct, name, Where::of(site));
  operation->sums = d, operation->shape = static_cast<uint32_t>(what.columns);
  const auto column_of = [](uint32_t address) { return static_cast<int>(address & 0xffff); };
  const Work work{what, {decode_tcgen05(a, name, site), kRows, kUnits}, {decode_tcgen05(b, name, site), what.columns, kUnits},
                  column_of(d), column_of(a_scales), column_of(b_scales), add, site};
  touch(memory, operation, {d, what.columns, true}, name, site);
  touch(memory, operation, {a_scales, kRows / kQuarterLanes, false}, name, site);
  touch(memory, operation, {b_scales, (what.columns + kQuarterLanes - 1) / kQuarterLanes, false}, name, site);
  operation->async->land = [&memory, work, operation = operation.get()] {
    for (const TensorOperationPointer& earlier : operation->before) complete(*earlier->async);
    operation->before.clear();
    multiply(memory, work);
  };
  read_until_done(memory.block, {work.a, work.b}, *operation->async, site);
  start(memory, operation);
}

void tcgen05_commit(uint64_t* barrier_address, Site site) {
  const Inside inside;
  TensorMemory& memory = tensor_memory();
  MBarrier& barrier = find_mbarrier_of_copy(barrier_address, "tcgen05.commit", site);
  std::vector<TensorOperationPointer>& started = memory.threads[self().linear].started;
  std::erase_if(started, [](const TensorOperationPointer& operation) {
    return operation->kind != TensorOperation::Kind::kLoad && operation->done;
  });
  std::vector<TensorOperationPointer> tracked;
  for (const TensorOperationPointer& operation : started)
    if (operation->kind != TensorOperation::Kind::kLoad && !operation->done) tracked.push_back(operation);
  auto commit = std::make_shared<AsyncOperation>();
  commit->name = "tcgen05.commit";
  commit->where = Where::of(site);
  commit->land = [&memory, &barrier, tracked] {
    for (const TensorOperationPointer& operation : tracked) complete(*operation->async);
    ++memory.block.agent_count;
    for (const TensorOperationPointer& operation : tracked) finish(memory, *operation);
    --memory.unfinished;
    complete_arrival(memory.block, barrier);
  };
  ++memory.unfinished;
  start(memory.block, std::move(commit));
}

void tcgen05_fence_before(Site) {
  const Inside inside;
  Thread& thread = self();
  std::vector<TensorOperationPointer>& started = tensor_memory().threads[thread.linear].started;
  const uint32_t now = ++thread.clock.at(thread.linear);
  for (const TensorOperationPointer& operation : started) {
    if (operation->kind == TensorOperation::Kind::kLoad && !operation->done) continue;  // has to be waited for
    uint32_t& released = operation->released[thread.linear - operation->thread];
    if (released == 0) released = now;
  }
  std::erase_if(started, [&](const TensorOperationPointer& operation) { return operation->done; });
}

void tcgen05_fence_after(Site) {
  const Inside inside;
  tensor_memory().threads[self().linear].known = self().clock;
}

}  // namespace gptoss::ptx
