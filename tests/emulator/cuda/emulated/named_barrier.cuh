// The emulator's twins of ptx/named_barrier.cuh: core/barrier.cpp knows barriers.
#pragma once

namespace gptoss::ptx {

inline void named_barrier_sync(int barrier, int threads, Site site = Site::current()) {
  ::emulator::named_barrier(barrier, threads, true, "barrier.cta.sync", site);
}
inline void named_barrier_arrive(int barrier, int threads, Site site = Site::current()) {
  ::emulator::named_barrier(barrier, threads, false, "barrier.cta.arrive", site);
}

}  // namespace gptoss::ptx
