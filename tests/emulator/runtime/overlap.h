// Kernels of one stream, each of which may begin while the one before it is still running.
#pragma once

#include <vector>

#include "../core/machine.h"

namespace emulator {

// Runs them to their ends. Returns false when one of them failed.
bool run_launches(const std::vector<Launch>& launches);

}  // namespace emulator
