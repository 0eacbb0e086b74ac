// elect.sync: always the same lane of a warp, and nobody may count on which.
#include "emulated/elect.cuh"

#include "../core/collective.h"
#include "cuda_runtime.h"

namespace gptoss::ptx {

using namespace ::emulator;

bool elect_one(Site site) {
  const Inside inside;
  static const Collective kElect{"elect.sync", Scope::kWarp, [](Participants& warp) {
    const int elected = (warp.block->id * 7 + warp.first / warp.size * 5 + 3) % warp.size;
    for (int lane = 0; lane < warp.size; ++lane) warp.operand<bool>(lane) = lane == elected;
  }};
  bool elected = false;
  collect(kElect, 0, &elected, site);
  return elected;
}

}  // namespace gptoss::ptx
