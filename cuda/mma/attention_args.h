// What the attention kernels of cuda/mma are told.
#pragma once

#include "args.h"

namespace gptoss {

struct MmaAttentionArgs {
  AttentionArgs a;
  float* partial;  // (tokens, heads, splits, state): see attention.cuh
  unsigned* arrived;  // (tokens, kv_heads), zeros: the last split merges them; null: attn_merge_splits does
};

}  // namespace gptoss
