// The model: what is computed, in which order, on any device.
#pragma once

#include "backend.h"
#include "model.h"

namespace gptoss {

void forward(Backend& device, State& state, const Model& model, const Batch& batch);

}  // namespace gptoss
