// The threadgroup memory of the sampling kernels, whose size the host has to know.
#pragma once

#include "args.h"

namespace gptoss {

struct FinishShared {
  uint64_t slots[kMaxWarps];
  uint64_t bins[kRadixBins];
  uint64_t prefix, remaining;
  float original;
};

// A slice's bins are all the memory that there is: what warps tell one another lies there before and after.
GPTOSS_CONSTANT int kWeighShared = kSampleBins * 8;

}  // namespace gptoss
