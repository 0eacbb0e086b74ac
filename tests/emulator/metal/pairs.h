// What pairs.metal is told.
#pragma once

#include "language.h"

namespace gptoss {

struct PairsArgs {
  GPTOSS_MEMORY const float* x;  // (count, 2)
  GPTOSS_MEMORY float* exp;      // (count, 2): of x
  GPTOSS_MEMORY float* log;      // (count, 2): of 1 - x
  int count;
};

}  // namespace gptoss
