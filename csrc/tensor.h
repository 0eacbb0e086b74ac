// A view of memory with a dtype and a shape. Never owns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gptoss {

enum class DType : uint8_t { u8, bf16, f32, i32 };

inline size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::u8: return 1;
    case DType::bf16: return 2;
    case DType::f32:
    case DType::i32: return 4;
  }
  return 0;
}

struct Tensor {
  const void* data = nullptr;
  DType dtype = DType::u8;
  int rank = 0;
  std::array<int64_t, 4> shape{};

  size_t count() const {
    size_t n = 1;
    for (int i = 0; i < rank; ++i) n *= static_cast<size_t>(shape[i]);
    return n;
  }
  size_t bytes() const { return count() * size_of(dtype); }
  bool empty() const { return data == nullptr; }
  // Checkpoint data sits at 8 mod 16 in the released files: byte and 2-byte access is aligned, nothing wider.
  const uint8_t* u8() const { return static_cast<const uint8_t*>(data); }
  const uint16_t* bf16() const { return static_cast<const uint16_t*>(data); }
};

}  // namespace gptoss
