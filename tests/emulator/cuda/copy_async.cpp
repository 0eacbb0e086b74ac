// cp.async: each thread's own copies, in groups.
#include "../core/access.h"
#include "../core/fault.h"
#include "cuda_runtime.h"

#include <cstring>

#include "emulated/shared.cuh"
#include "emulated/copy_async.cuh"

namespace gptoss::ptx {

using namespace ::emulator;

void cp_async_16_or_zero(void* shared, const void* global, bool valid, Site site) {
  const Inside inside;
  constexpr size_t kBytes = 16;
  ::emulator::shared_address(shared, kBytes, "cp.async", site);
  if (reinterpret_cast<uintptr_t>(shared) % kBytes != 0 || reinterpret_cast<uintptr_t>(global) % kBytes != 0)
    fault(Kind::kMisaligned, Where::of(site), "cp.async: an address is not a multiple of %zu", kBytes);
  if (valid) check_access(global, kBytes, Access::kRead, Where::of(site));
  auto operation = std::make_shared<AsyncOperation>();
  operation->name = "cp.async";
  operation->where = Where::of(site);
  operation->to = static_cast<char*>(shared);
  operation->bytes = kBytes;
  operation->land = [shared, global, valid] {
    if (valid)
      std::memcpy(shared, global, kBytes);
    else
      std::memset(shared, 0, kBytes);
  };
  begin_async_write(shared, kBytes, *operation);
  self().copies.open.push_back(operation);
  start(*self().block, std::move(operation));
}

void cp_async_commit_group(Site) {
  const Inside inside;
  CopyGroups& copies = self().copies;
  copies.committed.push_back(std::move(copies.open));
  copies.open.clear();
}

void cp_async_wait_group(int pending, Site) {
  const Inside inside;
  Thread& thread = self();
  CopyGroups& copies = thread.copies;
  while (copies.committed.size() > static_cast<size_t>(pending)) {
    for (const AsyncPointer& copy : copies.committed.front()) {
      complete(*copy);
      end_async_write(thread, copy->to, copy->bytes, copy->where);
    }
    copies.committed.pop_front();
  }
}

}  // namespace gptoss::ptx
