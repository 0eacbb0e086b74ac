// Where a side is in a ring of stages, and how it waits for the other side.
#pragma once

#include "ptx/mbarrier.cuh"
#include "simt/port.cuh"

namespace gptoss::cuda::wgmma {

// The stage, and the parity of its turn.
struct Turn {
  int stage = 0;
  uint32_t parity = 0;
  template <int kStages>
  GPTOSS_DEVICE void advance() {
    if (++stage < kStages) return;
    stage = 0;
    parity ^= 1;
  }
};

GPTOSS_DEVICE void wait_for(uint64_t* barrier, uint32_t parity) {
  while (!ptx::mbarrier_try_wait_parity(barrier, parity)) continue;
}

}  // namespace gptoss::cuda::wgmma
