// The nine stages as plain loops: float64 inside, float32 (or bf16, where the contract says so) between them.
#pragma once

#include "state.h"
#include "weights.h"

namespace reference {

void embed(State& s, const Ends& ends, const gptoss::Batch& batch);
void attn_qkv(State& s, const Layer& layer, const gptoss::Batch& batch);
void attn(State& s, const Layer& layer, const gptoss::Batch& batch);
void attn_out(State& s, const Layer& layer, const gptoss::Batch& batch);
void moe_route(State& s, const Layer& layer, const gptoss::Batch& batch);
void moe_up(State& s, const Layer& layer, const gptoss::Batch& batch);
void moe_down(State& s, const Layer& layer, const gptoss::Batch& batch);
void unembed(State& s, const Ends& ends, const gptoss::Batch& batch);
void sample(State& s, const Ends& ends, const gptoss::Batch& batch);

}  // namespace reference
