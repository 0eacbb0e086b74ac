#include "weights.h"

#include "numeric.h"

namespace reference {
namespace {

using gptoss::ExpertWeights;
using gptoss::Tensor;

std::vector<float> floats(const uint16_t* bf16, size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = gptoss::bf16_to_float(bf16[i]);
  return values;
}

std::vector<float> floats(const Tensor& t) { return floats(t.bf16(), t.count()); }

Linear linear(const Tensor& weight, const Tensor* bias) {
  return {.out = static_cast<int>(weight.shape[0]),
          .in = static_cast<int>(weight.shape[1]),
          .weight = floats(weight),
          .bias = bias ? floats(*bias) : std::vector<float>()};
}

// Either format of the checkpoint becomes (out, in).
Linear expert(const ExpertWeights& host, int e, int out, int in) {
  Linear l{.out = out, .in = in, .weight = std::vector<float>(static_cast<size_t>(out) * in), .bias = {}};
  l.bias = floats(host.bias.bf16() + static_cast<size_t>(e) * out, static_cast<size_t>(out));
  for (int r = 0; r < out; ++r)
    for (int i = 0; i < in; ++i) {
      float& w = l.weight[static_cast<size_t>(r) * in + i];
      if (!host.dense.empty()) {  // stored (E, in, out)
        w = gptoss::bf16_to_float(host.dense.bf16()[(static_cast<size_t>(e) * in + i) * out + r]);
        continue;
      }
      const size_t at =
          (static_cast<size_t>(e) * out + r) * in + i;  // element 2b in the low nibble of byte b
      const int byte = host.blocks.u8()[at / 2], code = at % 2 ? byte >> 4 : byte & 15;
      w = gptoss::kE2m1[code] * gptoss::e8m0_to_float(host.scales.u8()[at / gptoss::kMxfp4Group]);
    }
  return l;
}

}  // namespace

double Linear::row(int r, const float* x) const {
  double sum = 0;
  for (int i = 0; i < in; ++i) sum += static_cast<double>(weight[static_cast<size_t>(r) * in + i]) * x[i];
  return bias.empty() ? sum : sum + bias[static_cast<size_t>(r)];
}

Layer load(const gptoss::Config& c, const gptoss::HostLayer& host) {
  Layer layer;
  layer.q = linear(host.q_proj_weight, &host.q_proj_bias);
  layer.k = linear(host.k_proj_weight, &host.k_proj_bias);
  layer.v = linear(host.v_proj_weight, &host.v_proj_bias);
  layer.o = linear(host.o_proj_weight, &host.o_proj_bias);
  layer.router = linear(host.router_weight, &host.router_bias);
  layer.input_layernorm = floats(host.input_layernorm);
  layer.post_attention_layernorm = floats(host.post_attention_layernorm);
  layer.sinks = floats(host.sinks);
  for (int e = 0; e < c.num_local_experts; ++e) {
    layer.gate_up.push_back(expert(host.gate_up_proj, e, 2 * c.intermediate_size, c.hidden_size));
    layer.down.push_back(expert(host.down_proj, e, c.hidden_size, c.intermediate_size));
  }
  return layer;
}

Ends load(const gptoss::HostEnds& host) {
  Ends ends;
  ends.embed_tokens = floats(host.embed_tokens);
  ends.norm = floats(host.norm);
  ends.lm_head = linear(host.lm_head, nullptr);
  return ends;
}

}  // namespace reference
