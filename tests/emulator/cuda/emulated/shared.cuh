#pragma once

namespace gptoss::ptx {

using Site = ::emulator::Site;

inline uint32_t shared_address(const void* pointer, Site site = Site::current()) {
  return ::emulator::shared_address(pointer, 1, "__cvta_generic_to_shared", site);
}

}  // namespace gptoss::ptx
