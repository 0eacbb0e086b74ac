#include "stages.h"

#include <algorithm>
#include <cmath>

namespace reference {
namespace {

using gptoss::Batch;
using gptoss::LayerType;

void rmsnorm(const State& s, const float* x, const std::vector<float>& gain, float* out) {
  const int n = s.config.hidden_size;
  double squares = 0;
  for (int i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double scale = 1 / std::sqrt(squares / n + s.config.rms_norm_eps);
  for (int i = 0; i < n; ++i) out[i] = s.operand(x[i] * scale * gain[i]);
}

// The pair (j, j + head_dim / 2) is turned by position * inv_freq[j]: a float32 product, whose sine is not.
void rotate(const State& s, int position, double* head) {
  const int half = s.config.head_dim / 2;
  for (int j = 0; j < half; ++j) {
    const double angle = static_cast<float>(position) * s.rope.inv_freq[j];
    const double cos = std::cos(angle) * s.rope.concentration, sin = std::sin(angle) * s.rope.concentration;
    const double first = head[j], second = head[j + half];
    head[j] = first * cos - second * sin;
    head[j + half] = second * cos + first * sin;
  }
}

}  // namespace

void embed(State& s, const Ends& ends, const Batch& batch) {
  const int n = s.config.hidden_size;
  for (int t = 0; t < batch.tokens; ++t)
    std::copy_n(&ends.embed_tokens[static_cast<size_t>(s.token[t]) * n], n,
                &s.residual[static_cast<size_t>(t) * n]);
}

// All keys and values are appended before attn reads any, so a token sees the earlier ones of its own step.
void attn_qkv(State& s, const Layer& layer, const Batch& batch) {
  const int dim = s.config.head_dim, n = s.config.hidden_size;
  double* head = s.head.data();
  for (int t = 0; t < batch.tokens; ++t) {
    s.ask();
    float* x = &s.t[static_cast<size_t>(t) * n];
    rmsnorm(s, &s.residual[static_cast<size_t>(t) * n], layer.input_layernorm, x);
    const int position = s.position[t];
    for (int h = 0; h < s.config.num_attention_heads; ++h) {
      for (int d = 0; d < dim; ++d) head[d] = layer.q.row(h * dim + d, x);
      rotate(s, position, head);
      for (int d = 0; d < dim; ++d)
        s.q[static_cast<size_t>(t) * s.config.q_size() + h * dim + d] = s.operand(head[d]);
    }
    for (int h = 0; h < s.config.num_key_value_heads; ++h) {
      float* key = s.key(layer, s.sequence[t], position, h);
      for (int d = 0; d < dim; ++d) head[d] = layer.k.row(h * dim + d, x);
      rotate(s, position, head);
      for (int d = 0; d < dim; ++d) key[d] = s.stored(head[d]);
      for (int d = 0; d < dim; ++d) key[dim + d] = s.stored(layer.v.row(h * dim + d, x));
    }
  }
}

// Grouped heads, causal, on a sliding layer only the last `sliding_window` keys, the token itself included.
// The sink is one more logit, not scaled, without a value.
void attn(State& s, const Layer& layer, const Batch& batch) {
  const int dim = s.config.head_dim, heads = s.config.num_attention_heads;
  for (int t = 0; t < batch.tokens; ++t) {
    const int position = s.position[t], seq = s.sequence[t];
    const int first =
        layer.type == LayerType::full_attention ? 0 : std::max(0, position - s.config.sliding_window + 1);
    for (int h = 0; h < heads; ++h) {
      s.ask();
      const int kv_head = h / s.config.group_size();
      const float* q = &s.q[(static_cast<size_t>(t) * heads + h) * dim];
      double largest = layer.sinks[h];
      for (int at = first; at <= position; ++at) {
        const float* key = s.key(layer, seq, at, kv_head);
        double score = 0;
        for (int d = 0; d < dim; ++d) score += static_cast<double>(q[d]) * key[d];
        s.scores[at - first] = score / std::sqrt(dim);
        largest = std::max(largest, s.scores[at - first]);
      }
      double total = std::exp(layer.sinks[h] - largest);
      std::vector<double>& weight = s.scores;
      for (int i = 0; i <= position - first; ++i) {
        weight[i] = std::exp(weight[i] - largest);
        total += weight[i];
      }
      for (int d = 0; d < dim; ++d) {
        double sum = 0;
        for (int at = first; at <= position; ++at)
          sum += static_cast<double>(s.operand(weight[at - first])) * s.key(layer, seq, at, kv_head)[dim + d];
        s.attn[(static_cast<size_t>(t) * heads + h) * dim + d] = static_cast<float>(sum / total);
      }
      s.lse[static_cast<size_t>(t) * heads + h] = static_cast<float>(largest + std::log(total));
    }
  }
}

void attn_out(State& s, const Layer& layer, const Batch& batch) {
  const int n = s.config.hidden_size, q_size = s.config.q_size();
  for (int t = 0; t < batch.tokens; ++t) {
    s.ask();
    float* x = &s.q[static_cast<size_t>(t) * q_size];  // the queries are done with
    for (int i = 0; i < q_size; ++i) x[i] = s.operand(s.attn[static_cast<size_t>(t) * q_size + i]);
    for (int r = 0; r < n; ++r)
      s.residual[static_cast<size_t>(t) * n + r] += static_cast<float>(layer.o.row(r, x));
  }
}

// The best logits first, the lowest id on ties; softmax over the chosen alone.
void moe_route(State& s, const Layer& layer, const Batch& batch) {
  const int n = s.config.hidden_size, experts = s.config.num_local_experts,
            chosen = s.config.num_experts_per_tok;
  for (int t = 0; t < batch.tokens; ++t) {
    float* x = &s.t[static_cast<size_t>(t) * n];
    rmsnorm(s, &s.residual[static_cast<size_t>(t) * n], layer.post_attention_layernorm, x);
    float* logits = &s.router_logits[static_cast<size_t>(t) * experts];
    for (int e = 0; e < experts; ++e) logits[e] = static_cast<float>(layer.router.row(e, x));

    int32_t* choice = &s.router_choice[static_cast<size_t>(t) * chosen];
    float* weight = &s.router_weight[static_cast<size_t>(t) * chosen];
    double total = 0;
    for (int rank = 0; rank < chosen; ++rank) {
      choice[rank] = -1;
      for (int e = 0; e < experts; ++e) {
        const bool taken = std::find(choice, choice + rank, e) != choice + rank;
        if (!taken && (choice[rank] < 0 || logits[e] > logits[choice[rank]])) choice[rank] = e;
      }
      total += std::exp(static_cast<double>(logits[choice[rank]]) - logits[choice[0]]);
    }
    for (int rank = 0; rank < chosen; ++rank)
      weight[rank] =
          static_cast<float>(std::exp(static_cast<double>(logits[choice[rank]]) - logits[choice[0]]) / total);
  }
}

// Rows alternate between gate and up. The gate is clamped from above only, and one is added to up.
void moe_up(State& s, const Layer& layer, const Batch& batch) {
  const int n = s.config.hidden_size, inter = s.config.intermediate_size,
            chosen = s.config.num_experts_per_tok;
  const double limit = s.config.swiglu_limit, alpha = s.config.swiglu_alpha;
  for (int pair = 0; pair < batch.tokens * chosen; ++pair) {
    s.ask();
    const Linear& gate_up = layer.gate_up[s.router_choice[pair]];
    const float* x = &s.t[static_cast<size_t>(pair / chosen) * n];
    for (int i = 0; i < 2 * inter; ++i) s.u[i] = gate_up.row(i, x);
    for (int i = 0; i < inter; ++i) {
      const double gate = std::min(s.u[2 * i], limit), up = std::clamp(s.u[2 * i + 1], -limit, limit);
      s.h[static_cast<size_t>(pair) * inter + i] = s.operand(gate / (1 + std::exp(-alpha * gate)) * (up + 1));
    }
  }
}

void moe_down(State& s, const Layer& layer, const Batch& batch) {
  const int n = s.config.hidden_size, inter = s.config.intermediate_size,
            chosen = s.config.num_experts_per_tok;
  for (int t = 0; t < batch.tokens; ++t) {
    s.ask();
    for (int r = 0; r < n; ++r) {
      double sum = 0;
      for (int pair = t * chosen; pair < (t + 1) * chosen; ++pair)
        sum += s.router_weight[pair] *
               layer.down[s.router_choice[pair]].row(r, &s.h[static_cast<size_t>(pair) * inter]);
      s.residual[static_cast<size_t>(t) * n + r] += static_cast<float>(sum);
    }
  }
}

// Only for the rows asked for; row[i] is a token of the batch.
void unembed(State& s, const Ends& ends, const Batch& batch) {
  const int n = s.config.hidden_size, vocab = s.config.vocab_size;
  for (int i = 0; i < batch.rows; ++i) {
    s.ask();
    float* x = s.t.data();
    rmsnorm(s, &s.residual[static_cast<size_t>(s.row[i]) * n], ends.norm, x);
    for (int v = 0; v < vocab; ++v)
      s.logits[static_cast<size_t>(i) * vocab + v] = static_cast<float>(ends.lm_head.row(v, x));
  }
}

}  // namespace reference
