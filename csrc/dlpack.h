// DLPack's exchange structs (dmlc DLPack, version 0.8, the form without a version in it): how arrays of torch, cupy,
// jax and numpy cross over without a copy. Field order and sizes are the protocol.
#pragma once

#include <cstdint>

namespace gptoss::dlpack {

enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4 };

struct Device {
  int32_t type;  // 1 CPU, 2 CUDA, 10 ROCm
  int32_t index;
};
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t rank;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: contiguous
  uint64_t byte_offset;
};
struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};
static_assert(sizeof(Tensor) == 48 && sizeof(ManagedTensor) == 64, "the layout is an agreement with other libraries");

}  // namespace gptoss::dlpack
