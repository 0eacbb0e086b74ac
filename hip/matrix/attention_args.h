// What kernels of matrix/attention.cuh are told beside what SIMT's are.
#pragma once

#include "args.h"

namespace gptoss {

struct MatrixAttentionArgs {
  AttentionArgs a;
  int tile;  // tokens of a block
};

}  // namespace gptoss
