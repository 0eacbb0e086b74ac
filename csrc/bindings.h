// What the files of the bindings share.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "backend.h"

namespace gptoss {

Precision to_precision(const std::string& name);  // "exact" or "fast"; throws std::invalid_argument
KvDType to_kv_dtype(const std::string& name);     // "bf16" or "f32"

// The kernels one by one; see ops.h.
void bind_ops(pybind11::module_& m);

}  // namespace gptoss
