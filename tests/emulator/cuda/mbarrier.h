// What copies need of mbarriers.
#pragma once

#include "../core/machine.h"

namespace emulator {

// The barrier at this address, initialised and not overwritten, as the current thread may use it now.
MBarrier& find_mbarrier(uint64_t* address, const char* name, Site site);
// The same for a copy that will report to it: the async proxy has to know of the initialisation.
MBarrier& find_mbarrier_of_copy(uint64_t* address, const char* name, Site site);
// A copy has brought `bytes`: part of what the barrier's phase waits for.
void complete_bytes(Block& block, MBarrier& barrier, int64_t bytes);
// The tensor cores arrive.
void complete_arrival(Block& block, MBarrier& barrier);

}  // namespace emulator
