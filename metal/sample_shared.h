// The threadgroup memory of sample, whose size the host has to know.
#pragma once

#include "args.h"

namespace gptoss {

GPTOSS_CONSTANT int kBins = 256;  // of one round of the radix select

struct SampleShared {
  uint64_t slots[kMaxWarps];
  uint32_t low[kBins], high[kBins];  // of sums of 64 bits
  uint64_t prefix, remaining;
  float original;
};

}  // namespace gptoss
