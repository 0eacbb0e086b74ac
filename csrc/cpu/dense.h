// The dense matrices of attention and the unembedding: views of the checkpoint, or copies in 8 bits.
#pragma once

#include <string>

#include "../backend.h"
#include "memory.h"
#include "state.h"
#include "threads.h"

namespace gptoss::cpu {

Weight dense_bf16(const Kernels& kernels, const Tensor& matrix);

struct Int8Copy {
  Weight weight;
  Memory memory;  // what `weight` points to: the values, then the scales
  TensorError error;
};

// Made on all threads. Throws std::invalid_argument, naming `name`, where a weight is not finite.
Int8Copy dense_int8(const Kernels& kernels, Pool& pool, const Tensor& matrix, const std::string& name);

// Bytes of all the copies of a model.
size_t dense_int8_bytes(const Config& config);

}  // namespace gptoss::cpu
