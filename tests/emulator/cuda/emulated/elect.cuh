// The emulator's twin of ptx/elect.cuh: see elect.cpp.
#pragma once

#include "shared.cuh"

namespace gptoss::ptx {

bool elect_one(Site site = Site::current());

}  // namespace gptoss::ptx
