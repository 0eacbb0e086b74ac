// cp.async.bulk: contiguous bytes, reported to an mbarrier.
#include "../core/access.h"
#include "../core/fault.h"
#include "cuda_runtime.h"
#include "mbarrier.h"

#include <cstring>

#include "emulated/shared.cuh"
#include "emulated/bulk_copy.cuh"

namespace gptoss::ptx {

using namespace ::emulator;

void bulk_load(void* shared, const void* global, int bytes, uint64_t* barrier_address, Site site) {
  const Inside inside;
  Block& block = *self().block;
  const auto size = static_cast<size_t>(bytes);
  if (bytes <= 0 || bytes % 16 != 0 || reinterpret_cast<uintptr_t>(shared) % 16 != 0 ||
      reinterpret_cast<uintptr_t>(global) % 16 != 0)
    fault(Kind::kMisaligned, Where::of(site), "cp.async.bulk: addresses and size (%d) have to be multiples of 16", bytes);
  ::emulator::shared_address(shared, size, "cp.async.bulk", site);
  check_bounds(global, size, false, Where::of(site));
  MBarrier& barrier = find_mbarrier_of_copy(barrier_address, "cp.async.bulk", site);
  auto operation = std::make_shared<AsyncOperation>();
  operation->name = "cp.async.bulk";
  operation->where = Where::of(site);
  operation->land = [&block, &barrier, shared, global, size, where = Where::of(site)] {
    std::memcpy(shared, global, size);
    ++block.agent_count;
    end_async_write(block, shared, size, where);
    complete_bytes(block, barrier, static_cast<int64_t>(size));
  };
  begin_async_write(shared, size, *operation);
  start(block, std::move(operation));
}

void bulk_prefetch_l2(const void* global, int bytes, Site site) {
  const Inside inside;
  if (bytes % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0)
    fault(Kind::kMisaligned, Where::of(site), "cp.async.bulk.prefetch: address and size are multiples of 16");
  check_bounds(global, static_cast<size_t>(bytes), false, Where::of(site));
}

}  // namespace gptoss::ptx
