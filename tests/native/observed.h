// What a step can observe of its layers.
#pragma once

#include <vector>

#include "engine.h"

namespace test {

using namespace gptoss;

using Observed = std::vector<Engine::FieldData>;

inline constexpr Field kObservable[] = {Field::residual,      Field::attn,          Field::lse,
                                        Field::router_logits, Field::router_choice, Field::router_weight};

inline size_t token_bytes(const Config& c, Field field) {
  switch (field) {
    case Field::residual: return c.hidden_size * sizeof(float);
    case Field::attn: return c.q_size() * sizeof(float);
    case Field::lse: return c.num_attention_heads * sizeof(float);
    case Field::router_logits: return c.num_local_experts * sizeof(float);
    default: return c.num_experts_per_tok * sizeof(float);
  }
}

// Room for all of it.
inline Observed everything(const Config& c, int tokens) {
  Observed all;
  for (Field field : kObservable)
    all.push_back({field, std::vector<uint8_t>(c.num_hidden_layers * tokens * token_bytes(c, field), 0xff)});
  return all;
}

inline std::vector<uint8_t> of_layer(const Observed& all, Field field, int layer, int layers) {
  for (const auto& data : all)
    if (data.field == field) {
      const size_t bytes = data.bytes.size() / layers;
      return {data.bytes.begin() + layer * bytes, data.bytes.begin() + (layer + 1) * bytes};
    }
  return {};
}

}  // namespace test
