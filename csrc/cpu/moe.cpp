// moe_route, moe_up, moe_down: tokens are grouped by expert, so that each chosen expert is read once a step.
#include <algorithm>
#include <cmath>

#include "../numeric.h"
#include "backend.h"
#include "products.h"
#include "routing.h"

namespace gptoss::cpu {

void choose(const float* logits, int experts, int count, int32_t* choice, float* weight) {
  for (int rank = 0; rank < count; ++rank) {
    int best = -1;
    for (int e = 0; e < experts; ++e) {
      const bool taken = std::find(choice, choice + rank, e) != choice + rank;
      if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
    }
    choice[rank] = best;
  }
  float sum = 0;
  for (int rank = 0; rank < count; ++rank) {
    weight[rank] = std::exp(logits[choice[rank]] - logits[choice[0]]);
    sum += weight[rank];
  }
  for (int rank = 0; rank < count; ++rank) weight[rank] /= sum;
}

void group_by_expert(CpuState& s, int pairs) {
  const int experts = s.config.num_local_experts;
  int32_t* first = s.expert_first;
  std::fill_n(first, experts + 1, 0);
  for (int p = 0; p < pairs; ++p) ++first[s.router_choice[p] + 1];
  for (int e = 0; e < experts; ++e) first[e + 1] += first[e];
  for (int p = 0; p < pairs; ++p) s.expert_pairs[first[s.router_choice[p]]++] = p;
  for (int e = experts; e > 0; --e) first[e] = first[e - 1];
  first[0] = 0;
}

namespace {

// One product for every expert that was chosen; row i of expert e is x(pair).
template <class X>
int expert_products(CpuState& s, const Experts& experts, Product* products, int* expert_of, const X& x) {
  int count = 0;
  for (int e = 0; e < s.config.num_local_experts; ++e) {
    const int first = s.expert_first[e], tokens = s.expert_first[e + 1] - first;
    if (tokens == 0) continue;
    for (int i = 0; i < tokens; ++i) s.expert_rows[first + i] = x(s.expert_pairs[first + i]);
    expert_of[count] = e;
    products[count++] = {&experts.weight[e], s.expert_rows + first, tokens};
  }
  return count;
}

}  // namespace

void CpuBackend::moe_route(State& state, const Layer& base, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  const auto& layer = static_cast<const CpuLayer&>(base);
  const int experts = s.config.num_local_experts, chosen = s.config.num_experts_per_tok;
  const Tokens tokens = s.tokens(layer, batch);  // what is routed is numbered as in this list
  norm(s, layer.post_attention_layernorm, tokens);
  Product product{&layer.router, s.packed_rows, tokens.count};
  products(s, &product, 1, [&](const Block& b) {
    for (int t = 0; t < b.tokens; ++t)
      for (int r = 0; r < b.rows; ++r)
        s.router_logits[static_cast<size_t>(b.token + t) * experts + b.row + r] =
            b.y[t * kTaskRows + r] + layer.router_bias[b.row + r];
  });
  parallel(tokens.count, [&](int t, int) {
    choose(s.router_logits + static_cast<size_t>(t) * experts, experts, chosen, s.router_choice + t * chosen,
           s.router_weight + t * chosen);
  });
  group_by_expert(s, tokens.count * chosen);
}

void CpuBackend::moe_up(State& state, const Layer& base, const Batch&) {
  auto& s = static_cast<CpuState&>(state);
  const auto& layer = static_cast<const CpuLayer&>(base);
  const Config& c = s.config;
  const int count = expert_products(s, layer.gate_up, s.products.data(), s.product_expert.data(), [&](int pair) {
    return s.packed_rows[pair / c.num_experts_per_tok];
  });
  const bool round = options_.precision == Precision::fast;
  // A block of kTaskRows interleaved gate and up rows is a whole number of packed groups of h.
  static_assert(kTaskRows % (2 * kPackGroup) == 0);
  products(s, s.products.data(), count, [&](const Block& b) {
    const int e = s.product_expert[b.index];
    const int32_t* pairs = s.expert_pairs + s.expert_first[e] + b.token;
    for (int t = 0; t < b.tokens; ++t)
      kernels_.swiglu_pack(b.y + t * kTaskRows, layer.gate_up.bias[e] + b.row, b.rows / 2, c.swiglu_limit, c.swiglu_alpha,
                           round, s.expert_h + pairs[t] * s.h_stride + kernels_.floats(b.row / 2, round));
  });
  if (pool_.stopped()) throw Interrupted();
}

void CpuBackend::moe_down(State& state, const Layer& base, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  const auto& layer = static_cast<const CpuLayer&>(base);
  const int hidden = s.config.hidden_size, chosen = s.config.num_experts_per_tok;
  const int count = expert_products(s, layer.down, s.products.data(), s.product_expert.data(), [&](int pair) {
    return s.expert_h + pair * s.h_stride;
  });
  products(s, s.products.data(), count, [&](const Block& b) {
    const int e = s.product_expert[b.index];
    const int32_t* pairs = s.expert_pairs + s.expert_first[e] + b.token;
    const uint16_t* bias = layer.down.bias[e] + b.row;
    for (int t = 0; t < b.tokens; ++t) {
      float* out = s.expert_y + static_cast<size_t>(pairs[t]) * hidden + b.row;
      for (int r = 0; r < b.rows; ++r) out[r] = b.y[t * kTaskRows + r] + bf16_to_float(bias[r]);
    }
  });
  const Tokens tokens = s.tokens(layer, batch);
  parallel(tokens.count, [&](int t, int) {
    float* x = s.residual + static_cast<size_t>(tokens[t]) * hidden;
    const float* y = s.expert_y + static_cast<size_t>(t) * chosen * hidden;
    const float* weight = s.router_weight + t * chosen;
    for (int i = 0; i < hidden; ++i) {
      float sum = weight[0] * y[i];
      for (int rank = 1; rank < chosen; ++rank) sum += weight[rank] * y[static_cast<size_t>(rank) * hidden + i];
      x[i] += sum;
    }
  });
}

}  // namespace gptoss::cpu
