// What copies need of mbarriers.
#pragma once

#include "../core/machine.h"

namespace emulator {

// The barrier at this address, initialised and not overwritten, as the current thread may use it now.
MBarrier& find_mbarrier(uint64_t* address, const char* name, Site site);
// A copy has brought `bytes`: part of what the barrier's phase waits for.
void complete_bytes(Block& block, MBarrier& barrier, int64_t bytes);

}  // namespace emulator
