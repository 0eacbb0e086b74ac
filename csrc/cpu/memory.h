// A block of the system's own pages: aligned, zeroed, and not resident until it is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace gptoss::cpu {

class Memory {
 public:
  Memory() = default;
  Memory(size_t bytes, const char* what);  // throws std::runtime_error, naming `what` and the bytes
  ~Memory();
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  uint8_t* data() const { return data_; }

  static size_t allocated();  // bytes of all blocks that there are in this process

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace gptoss::cpu
