// The emulator's twins of ptx/tensor_memory.cuh: see tensor_memory.cpp.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

void tensor_alloc(uint32_t* shared, int columns, Site site = Site::current());
void tensor_relinquish(Site site = Site::current());
void tensor_dealloc(uint32_t address, int columns, Site site = Site::current());
void tensor_copy_32x128b(uint32_t address, uint64_t descriptor, Site site = Site::current());
void tensor_load_32x32b_x32(float (&values)[32], uint32_t address, Site site = Site::current());
void tensor_wait_load(Site site = Site::current());

}  // namespace gptoss::ptx
