// Which experts a token goes to, and which tokens an expert gets.
#pragma once

#include "state.h"

namespace gptoss::cpu {

// The `count` largest of `logits`, largest first, lowest index on ties; softmax over these alone.
void choose(const float* logits, int experts, int count, int32_t* choice, float* weight);

// expert_first, expert_pairs: a stable counting sort of the pairs by expert.
void group_by_expert(CpuState& s, int pairs);

}  // namespace gptoss::cpu
