// The emulator's twins of ptx/memory.cuh.
#pragma once

namespace gptoss::ptx {

inline uint32_t load_acquire(const uint32_t* address, Site site = Site::current()) {
  return ::emulator::atomic_value<uint32_t>(::emulator::Atomic::kLoad, const_cast<uint32_t*>(address), 0, 0,
                                            "ld.acquire", site);
}
inline void store_release(uint32_t* address, uint32_t value, Site site = Site::current()) {
  ::emulator::thread_fence();
  ::emulator::atomic_value<uint32_t>(::emulator::Atomic::kStore, address, value, 0, "st.release", site);
}
inline uint4 load_streaming(const uint4* address) { return *address; }

}  // namespace gptoss::ptx
