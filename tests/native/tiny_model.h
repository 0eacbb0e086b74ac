// A random model of three small layers, both types among them, and engines that run it.
#pragma once

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/backend.h"
#include "engine.h"
#include "numeric.h"

namespace test {

class TinyModel {
 public:
  explicit TinyModel(int sliding_window, uint64_t seed = 1) : random_(seed) {
    config.layer_types = {gptoss::LayerType::sliding_attention, gptoss::LayerType::full_attention,
                          gptoss::LayerType::sliding_attention};
    config.num_hidden_layers = 3;
    config.num_local_experts = 4;
    config.num_experts_per_tok = 2;
    config.hidden_size = config.intermediate_size = 32;
    config.head_dim = 16;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.vocab_size = 67;  // not a whole number of mask words
    config.sliding_window = sliding_window;
    config.max_position_embeddings = 1 << 17;
    config.rope_theta = 150000;
    config.rope_scaling = {.yarn = true, .factor = 32, .original_max_position_embeddings = 4096};
    for (int i = 0; i < config.num_hidden_layers; ++i) layers.push_back(make_layer(i));
    const int hidden = config.hidden_size, vocab = config.vocab_size;
    ends.embed_tokens = normal({vocab, hidden}, 1);
    ends.norm = normal({hidden}, 0.2f, 1);
    ends.lm_head = normal({vocab, hidden}, 2 / std::sqrt(static_cast<float>(hidden)));
  }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;

  gptoss::Config config;
  std::vector<gptoss::HostLayer> layers;
  gptoss::HostEnds ends;

 private:
  gptoss::Tensor normal(std::initializer_list<int64_t> shape, float deviation, float mean = 0) {
    gptoss::Tensor t{.dtype = gptoss::DType::bf16, .rank = static_cast<int>(shape.size()), .shape = {}};
    std::copy(shape.begin(), shape.end(), t.shape.begin());
    halves_.emplace_back(t.count());
    for (uint16_t& x : halves_.back()) x = gptoss::float_to_bf16(mean + deviation * random_.normal());
    t.data = halves_.back().data();
    return t;
  }

  // Every code occurs; a scale of 2^-3 or 2^-4 gives weights of standard deviation 0.2 to 0.4.
  gptoss::ExpertWeights experts(int64_t out, int64_t in) {
    gptoss::ExpertWeights w;
    const int64_t count = config.num_local_experts;
    w.blocks = {.dtype = gptoss::DType::u8, .rank = 4, .shape = {count, out, in / 32, 16}};
    w.scales = {.dtype = gptoss::DType::u8, .rank = 3, .shape = {count, out, in / 32}};
    bytes_.emplace_back(w.blocks.count());
    for (uint8_t& code : bytes_.back()) code = static_cast<uint8_t>(random_.bits());
    w.blocks.data = bytes_.back().data();
    bytes_.emplace_back(w.scales.count());
    for (uint8_t& scale : bytes_.back()) scale = static_cast<uint8_t>(123 + random_.below(2));
    w.scales.data = bytes_.back().data();
    w.bias = normal({count, out}, 0.2f);
    return w;
  }

  gptoss::HostLayer make_layer(int index) {
    const int64_t hidden = config.hidden_size, q = config.q_size(), kv = config.kv_size();
    const float root = 1 / std::sqrt(static_cast<float>(hidden));
    gptoss::HostLayer l;
    l.index = index;
    l.input_layernorm = normal({hidden}, 0.2f, 1);
    l.q_proj_weight = normal({q, hidden}, 1.3f * root);
    l.q_proj_bias = normal({q}, 0.3f);
    l.k_proj_weight = normal({kv, hidden}, 1.3f * root);
    l.k_proj_bias = normal({kv}, 0.3f);
    l.v_proj_weight = normal({kv, hidden}, root);
    l.v_proj_bias = normal({kv}, 0.3f);
    l.sinks = normal({config.num_attention_heads}, 1);
    l.o_proj_weight = normal({hidden, q}, 1 / std::sqrt(static_cast<float>(q)));
    l.o_proj_bias = normal({hidden}, 0.1f);
    l.post_attention_layernorm = normal({hidden}, 0.2f, 1);
    l.router_weight = normal({config.num_local_experts, hidden}, root);
    l.router_bias = normal({config.num_local_experts}, 0.3f);
    l.gate_up_proj = experts(2 * config.intermediate_size, hidden);
    l.down_proj = experts(hidden, config.intermediate_size);
    return l;
  }

  Random random_;
  std::vector<std::vector<uint16_t>> halves_;
  std::vector<std::vector<uint8_t>> bytes_;
};

inline std::unique_ptr<gptoss::Backend> cpu_device(int threads = 1) {
  gptoss::BackendOptions options;
  options.precision = gptoss::Precision::exact;
  options.kv_dtype = gptoss::KvDType::f32;
  options.threads = threads;
  return std::make_unique<gptoss::cpu::CpuBackend>(options);
}

// `device` is made by the caller, who may keep a reference to it.
inline std::unique_ptr<gptoss::Engine> open_engine(const TinyModel& model, const gptoss::EngineLimits& limits,
                                                   std::unique_ptr<gptoss::Backend> device = cpu_device()) {
  auto engine = std::make_unique<gptoss::Engine>(model.config, limits, std::move(device));
  for (const auto& layer : model.layers) engine->load(layer);
  engine->load(model.ends);
  engine->start();
  return engine;
}

using Tokens = std::vector<int32_t>;

inline Tokens random_tokens(Random& random, const TinyModel& model, int count) {
  Tokens tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = random.below(model.config.vocab_size);
  return tokens;
}

inline Tokens slice(const Tokens& tokens, int first, int last) {
  return {tokens.begin() + first, tokens.begin() + last};
}

inline Tokens joined(Tokens first, const Tokens& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

inline Tokens up_to(int count) {  // 0, 1, ... count - 1
  Tokens all;
  for (int i = 0; i < count; ++i) all.push_back(i);
  return all;
}

// A draw of its own for each seed.
inline gptoss::Sampling drawn(uint64_t seed) {
  gptoss::Sampling sampling;
  sampling.temperature = 1;
  sampling.top_p = 0.9f;
  sampling.seed = seed;
  sampling.logprobs = 3;
  return sampling;
}

// The same numbers bit for bit.
inline bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

inline std::vector<float> rows_of(const std::vector<float>& logits, const TinyModel& model, int first,
                                  int last) {
  const size_t vocab = static_cast<size_t>(model.config.vocab_size);
  return {logits.begin() + first * vocab, logits.begin() + last * vocab};
}

// Every logit of `tokens`, which follow those in `session`, in steps of at most `chunk`.
inline std::vector<float> run(gptoss::Engine& engine, const std::shared_ptr<gptoss::Session>& session,
                              const Tokens& tokens, int chunk = 1 << 20) {
  std::vector<float> logits;
  for (int first = 0, n = static_cast<int>(tokens.size()); first < n; first += chunk) {
    const int last = std::min(n, first + chunk);
    const auto outputs = engine.step({{.session = session,
                                       .tokens = slice(tokens, first, last),
                                       .rows = up_to(last - first),
                                       .sampling = {}}});
    logits.insert(logits.end(), outputs[0].logits.begin(), outputs[0].logits.end());
  }
  return logits;
}

// The same from nothing, in one step.
inline std::vector<float> cold(gptoss::Engine& engine, const Tokens& tokens) {
  return run(engine, engine.session(), tokens);
}

}  // namespace test
