// The emulator's twins of ptx/copy_async.cuh: see copy_async.cpp.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

void cp_async_16_or_zero(void* shared, const void* global, bool valid, Site site = Site::current());
inline void cp_async_16(void* shared, const void* global, Site site = Site::current()) {
  cp_async_16_or_zero(shared, global, true, site);
}
void cp_async_4(void* shared, const void* global, Site site = Site::current());
void cp_async_commit_group(Site site = Site::current());
void cp_async_wait_group(int pending, Site site);
template <int kPending>
void cp_async_wait_group(Site site = Site::current()) {
  cp_async_wait_group(kPending, site);
}

}  // namespace gptoss::ptx
