// Activations and the KV pool: everything that a step touches, allocated once.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "backend.h"
#include "numeric.h"

namespace reference {

using gptoss::kPageTokens;

struct State : gptoss::State {
  gptoss::Config config;
  gptoss::Limits limits;
  gptoss::Rope rope;
  gptoss::Precision precision;
  gptoss::KvDType kv_dtype;

  // What can be written and read from outside; see gptoss::Field.
  std::vector<int32_t> token, position, sequence, full_pages, window_pages, row;
  std::vector<gptoss::SampleParams> sampling;
  std::vector<gptoss::TokenEdit> edit;
  std::vector<uint32_t> mask;
  std::vector<float> residual, attn, lse, router_logits, router_weight, logits, logprob, top_logprob;
  std::vector<int32_t> router_choice, next_token, top_token;

  // Between stages.
  std::vector<float> t;             // (tokens, hidden_size): rmsnorm(residual)
  std::vector<float> q;             // (tokens, num_attention_heads, head_dim)
  std::vector<float> h;             // (tokens, num_experts_per_tok, intermediate_size): swiglu
  std::vector<double> u;            // (2 * intermediate_size)
  std::vector<double> head;         // (head_dim)
  std::vector<double> scores;       // (max_context)
  std::vector<int32_t> order;       // (vocab_size)
  std::vector<float> model_logits;  // (vocab_size): a row before edits and mask
  // (pages, layers of one type, 64 slots, num_key_value_heads, key and value, head_dim); kept as floats,
  // rounded first where kv_dtype is bf16.
  std::vector<float> kv;
  // What keep() copied: (layers, 6 fields, max_kept tokens), each as wide as the field.
  std::vector<uint8_t> kept;

  // The stages of the step that was submitted, to be run by wait().
  std::vector<std::function<void()>> queue;
  gptoss::Ticket ticket = 0;
  const gptoss::InterruptPoll* poll = nullptr;
  std::chrono::steady_clock::time_point last_poll;

  // What enters a matrix product.
  float operand(double x) const {
    const float rounded = static_cast<float>(x);
    return precision == gptoss::Precision::fast ? gptoss::round_to_bf16(rounded) : rounded;
  }
  float stored(double x) const {
    const float rounded = static_cast<float>(x);
    return kv_dtype == gptoss::KvDType::bf16 ? gptoss::round_to_bf16(rounded) : rounded;
  }

  // The key of a position of one sequence; its value lies head_dim further on. The table of the layer's type
  // says which page holds the position.
  float* key(const gptoss::Layer& layer, int seq, int at, int head) {
    const auto& table = layer.type == gptoss::LayerType::full_attention ? full_pages : window_pages;
    const size_t page = table[static_cast<size_t>(seq) * limits.table_pages() + at / kPageTokens];
    const size_t slot = (page * layers_per_page(config) + layer.cache_index) * kPageTokens + at % kPageTokens;
    return &kv[(slot * config.num_key_value_heads + head) * 2 * config.head_dim];
  }

  // Pages of both tables come from one pool, so a page must suit either type of layer.
  static size_t layers_per_page(const gptoss::Config& c) {
    return static_cast<size_t>(std::max(c.layers_of(gptoss::LayerType::full_attention),
                                        c.layers_of(gptoss::LayerType::sliding_attention)));
  }
  static size_t page_floats(const gptoss::Config& c) {
    return layers_per_page(c) * kPageTokens * c.num_key_value_heads * 2 * c.head_dim;
  }

  // Called in the loops of a stage: a step must stop within 100 ms of being asked to.
  void ask() {
    const auto now = std::chrono::steady_clock::now();
    if (!poll || !*poll || now - last_poll < std::chrono::milliseconds(50)) return;
    if ((*poll)()) throw gptoss::Interrupted();
    last_poll = std::chrono::steady_clock::now();
  }
};

inline size_t mask_words(const gptoss::Config& c) { return (static_cast<size_t>(c.vocab_size) + 31) / 32; }

// Names every array but the KV pool, the logits and what is kept, with its number of elements: plan() adds them up, state()
// allocates them, so that the two cannot disagree.
template <class Visit>
void activations(State& s, const gptoss::Config& c, const gptoss::Limits& limits, const Visit& visit) {
  const size_t tokens = limits.max_tokens, sequences = limits.max_sequences,
               table = sequences * limits.table_pages();
  const size_t heads = c.num_attention_heads, chosen = tokens * c.num_experts_per_tok;
  visit(s.token, tokens);
  visit(s.position, tokens);
  visit(s.sequence, tokens);
  visit(s.full_pages, table);
  visit(s.window_pages, table);
  visit(s.row, static_cast<size_t>(limits.max_outputs));
  visit(s.sampling, sequences);
  visit(s.edit, static_cast<size_t>(limits.max_edits));
  visit(s.mask, sequences * mask_words(c));
  visit(s.next_token, sequences);
  visit(s.logprob, sequences);
  visit(s.top_token, sequences * gptoss::kMaxLogprobs);
  visit(s.top_logprob, sequences * gptoss::kMaxLogprobs);
  visit(s.residual, tokens * c.hidden_size);
  visit(s.attn, tokens * heads * c.head_dim);
  visit(s.lse, tokens * heads);
  visit(s.router_logits, tokens * c.num_local_experts);
  visit(s.router_choice, chosen);
  visit(s.router_weight, chosen);
  visit(s.t, tokens * c.hidden_size);
  visit(s.q, tokens * heads * c.head_dim);
  visit(s.h, chosen * c.intermediate_size);
  visit(s.u, 2 * static_cast<size_t>(c.intermediate_size));
  visit(s.head, static_cast<size_t>(c.head_dim));
  visit(s.scores, static_cast<size_t>(limits.max_context));
  visit(s.order, static_cast<size_t>(c.vocab_size));
  visit(s.model_logits, static_cast<size_t>(c.vocab_size));
}

}  // namespace reference
