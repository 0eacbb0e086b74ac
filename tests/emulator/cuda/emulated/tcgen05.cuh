// The emulator's twins of ptx/tcgen05.cuh: see tcgen05.cpp.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

void tcgen05_mma_block_scaled(uint32_t d, uint64_t a, uint64_t b, uint32_t what, uint32_t a_scales, uint32_t b_scales, bool add,
                              Site site = Site::current());
void tcgen05_commit(uint64_t* barrier, Site site = Site::current());
void tcgen05_fence_before(Site site = Site::current());
void tcgen05_fence_after(Site site = Site::current());

}  // namespace gptoss::ptx
