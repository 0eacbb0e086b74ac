// cp.async: each thread's own copies, in groups.
#include "emulated/copy_async.cuh"

#include <cstring>

#include "../core/access.h"
#include "../core/fault.h"
#include "cuda_runtime.h"
#include "emulated/shared.cuh"

namespace gptoss::ptx {

using namespace ::emulator;

namespace {

void copy(void* shared, const void* global, size_t bytes, bool valid, Site site) {
  ::emulator::shared_address(shared, bytes, "cp.async", site);
  if (reinterpret_cast<uintptr_t>(shared) % bytes != 0 || reinterpret_cast<uintptr_t>(global) % bytes != 0)
    fault(Kind::kMisaligned, Where::of(site), "cp.async: an address is not a multiple of %zu", bytes);
  if (valid) check_access(global, bytes, Access::kRead, Where::of(site));
  auto operation = std::make_shared<AsyncOperation>();
  operation->name = "cp.async";
  operation->where = Where::of(site);
  operation->to = static_cast<char*>(shared);
  operation->bytes = bytes;
  operation->land = [shared, global, bytes, valid] {
    if (valid)
      std::memcpy(shared, global, bytes);
    else
      std::memset(shared, 0, bytes);
  };
  begin_async_write(shared, bytes, *operation);
  self().copies.open.push_back(operation);
  start(*self().block, std::move(operation));
}

}  // namespace

void cp_async_16_or_zero(void* shared, const void* global, bool valid, Site site) {
  const Inside inside;
  copy(shared, global, 16, valid, site);
}
void cp_async_4(void* shared, const void* global, Site site) {
  const Inside inside;
  copy(shared, global, 4, true, site);
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
