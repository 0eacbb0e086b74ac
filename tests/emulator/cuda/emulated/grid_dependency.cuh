// The emulator's twins of ptx/grid_dependency.cuh: runtime/overlap.cpp lets grids overlap.
#pragma once

namespace gptoss::ptx {

inline void grid_dependency_wait(Site site = Site::current()) { ::emulator::dependency_wait(site); }
inline void grid_launch_dependents() { ::emulator::trigger_dependents(); }

}  // namespace gptoss::ptx
