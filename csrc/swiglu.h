// The experts' activation, for GPUs of every language.
#pragma once

#include "language.h"

namespace gptoss {

GPTOSS_HD inline float swiglu(float gate, float up, float limit, float alpha) {
  gate = fminf(gate, limit);
  up = fmaxf(-limit, fminf(up, limit));
  return gate * (1.0f / (1.0f + expf(-alpha * gate))) * (up + 1.0f);
}

}  // namespace gptoss
