// The emulator's twins of ptx/bulk_copy.cuh: see bulk_copy.cpp.
#pragma once

namespace gptoss::ptx {

void bulk_load(void* shared, const void* global, int bytes, uint64_t* barrier, Site site = Site::current());
void bulk_prefetch_l2(const void* global, int bytes, Site site = Site::current());

}  // namespace gptoss::ptx
