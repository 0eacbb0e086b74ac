// An element of the experts' weighted sum, in order of rank, onto the residual.
#pragma once

#include "port.h"

namespace gptoss {

inline void add_ranks(constant CombineArgs& a, int token, int i) {
  device const float* weight = a.weight + static_cast<size_t>(token) * a.chosen;
  device const float* y = a.y + static_cast<size_t>(token) * a.chosen * a.size + i;
  float sum = weight[0] * y[0];
  for (int rank = 1; rank < a.chosen; ++rank) sum = sum + weight[rank] * y[static_cast<size_t>(rank) * a.size];
  a.residual[static_cast<size_t>(token) * a.size + i] += sum;
}

}  // namespace gptoss
