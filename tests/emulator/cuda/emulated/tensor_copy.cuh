// The emulator's twins of ptx/tensor_copy.cuh: see tensor_copy.cpp.
#pragma once

namespace gptoss::ptx {

void tensor_load_2d(void* shared, const CUtensorMap* map, int x, int y, uint64_t* barrier,
                    Site site = Site::current());
void prefetch_tensor_map(const CUtensorMap* map, Site site = Site::current());

}  // namespace gptoss::ptx
