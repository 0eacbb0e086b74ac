// What the files of the bindings share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <map>
#include <stdexcept>
#include <string>

#include "backend.h"
#include "model.h"

namespace gptoss {

[[noreturn]] inline void refuse(const std::string& what) { throw std::invalid_argument(what); }

// Python's values as the data of the model; each refuses what it cannot be.
Precision to_precision(const std::string& name);  // "exact" or "fast"
KvDType to_kv_dtype(const std::string& name);     // "bf16" or "f32"
Dense to_dense(const std::string& name);          // "bf16" or "int8"
Config to_config(const pybind11::dict& data);

// By our names; uint8 as it is, uint16 as the bits of bf16. A tensor that is not there is an empty one: what must be
// there is checked by validate().
using NamedArrays = std::map<std::string, pybind11::array>;
HostLayer to_layer(int index, const NamedArrays& tensors);
HostEnds to_ends(const NamedArrays& tensors);

// The kernels one by one; see ops.h.
void bind_ops(pybind11::module_& m);

}  // namespace gptoss
