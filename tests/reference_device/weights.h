// The weights in this device's own form: plain row-major floats, MXFP4 and bf16 alike, dequantised at load.
#pragma once

#include <vector>

#include "backend.h"

namespace reference {

// y = weight x + bias
struct Linear {
  int out = 0, in = 0;
  std::vector<float> weight;  // (out, in)
  std::vector<float> bias;    // (out), or empty

  double row(int r, const float* x) const;
};

struct Layer : gptoss::Layer {
  Linear q, k, v, o, router;
  std::vector<float> input_layernorm, post_attention_layernorm, sinks;
  std::vector<Linear> gate_up, down;  // (num_local_experts)
};

struct Ends : gptoss::Ends {
  std::vector<float> embed_tokens;  // (vocab_size, hidden_size)
  std::vector<float> norm;
  Linear lm_head;
};

Layer load(const gptoss::Config& config, const gptoss::HostLayer& host);
Ends load(const gptoss::HostEnds& host);

}  // namespace reference
