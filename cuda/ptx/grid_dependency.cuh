// Programmatic dependent launch (sm_90): a kernel that begins while the one before it in the stream still runs.
#pragma once

#include "shared.cuh"

#if defined(GPTOSS_EMULATOR)
#include <emulated/grid_dependency.cuh>
#else
namespace gptoss::ptx {

// Until the grids before this one have ended and their stores are visible. What comes before may neither read what
// they write nor write what they read. Returns at once where the launch was an ordinary one.
GPTOSS_PTX void grid_dependency_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// The next grid may begin once all blocks have said so, or have ended.
GPTOSS_PTX void grid_launch_dependents() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

}  // namespace gptoss::ptx
#endif
