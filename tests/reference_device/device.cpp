// A second device, as simple as a device can be: it proves that the contract (csrc/backend.h) is enough, and
// shows what a device must do. It is slow, and only tests build it.
//
// It differs from the CPU device wherever the contract leaves it free: weights are copied into a form of its
// own, the KV pool has another layout, and submit() only records the stages, which wait() runs.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>

#include "build_info.h"
#include "stages.h"

namespace reference {
namespace {

using gptoss::Batch;
using gptoss::Config;
using gptoss::Field;
using gptoss::InterruptPoll;
using gptoss::Limits;
using gptoss::Ticket;

template <class T>
void copy_in(std::vector<T>& to, const void* data, size_t bytes) {
  if (bytes > to.size() * sizeof(T)) throw std::logic_error("a field is smaller than what is written to it");
  if (bytes) std::memcpy(to.data(), data, bytes);
}

template <class T>
void copy_out(const std::vector<T>& from, void* data, size_t bytes) {
  if (bytes > from.size() * sizeof(T)) throw std::logic_error("a field is smaller than what is read from it");
  if (bytes) std::memcpy(data, from.data(), bytes);
}

template <class Use>
void with_field(State& s, Field field, const Use& use) {
  switch (field) {
    case Field::token: return use(s.token);
    case Field::position: return use(s.position);
    case Field::sequence: return use(s.sequence);
    case Field::full_pages: return use(s.full_pages);
    case Field::window_pages: return use(s.window_pages);
    case Field::row: return use(s.row);
    case Field::sampling: return use(s.sampling);
    case Field::edit: return use(s.edit);
    case Field::mask: return use(s.mask);
    case Field::residual: return use(s.residual);
    case Field::attn: return use(s.attn);
    case Field::lse: return use(s.lse);
    case Field::router_logits: return use(s.router_logits);
    case Field::router_choice: return use(s.router_choice);
    case Field::router_weight: return use(s.router_weight);
    case Field::logits: return use(s.logits);
    case Field::next_token: return use(s.next_token);
    case Field::logprob: return use(s.logprob);
    case Field::top_token: return use(s.top_token);
    case Field::top_logprob: return use(s.top_logprob);
  }
  throw std::logic_error("unknown field");
}

// The fields that can be kept, in the order of State::kept. All their numbers have four bytes.
constexpr Field kKeepable[] = {Field::residual,      Field::attn,          Field::lse,
                               Field::router_logits, Field::router_choice, Field::router_weight};

size_t token_bytes(const Config& c, Field field) {
  switch (field) {
    case Field::residual: return 4 * static_cast<size_t>(c.hidden_size);
    case Field::attn: return 4 * static_cast<size_t>(c.q_size());
    case Field::lse: return 4 * static_cast<size_t>(c.num_attention_heads);
    case Field::router_logits: return 4 * static_cast<size_t>(c.num_local_experts);
    case Field::router_choice:
    case Field::router_weight: return 4 * static_cast<size_t>(c.num_experts_per_tok);
    default: throw std::invalid_argument("this field has no per-token values that could be kept");
  }
}

size_t kept_bytes(const Config& c, const Limits& limits) {
  size_t bytes = 0;
  for (Field field : kKeepable) bytes += token_bytes(c, field) * limits.max_kept;
  return bytes * c.num_hidden_layers;
}

uint8_t* kept_slot(State& s, Field wanted, int layer) {
  size_t offset = s.kept.size() / s.config.num_hidden_layers * layer;
  for (Field field : kKeepable) {
    if (field == wanted) return s.kept.data() + offset;
    offset += token_bytes(s.config, field) * s.limits.max_kept;
  }
  throw std::invalid_argument("this field cannot be kept");
}

class Device : public gptoss::Backend {
 public:
  explicit Device(const gptoss::BackendOptions& options) : options_(options) {
    if (options.dense != gptoss::Dense::bf16)
      throw std::invalid_argument("dense weights stay in bf16 on this device; load with dense='bf16', or with device='cpu'");
  }

  gptoss::DeviceFacts facts() const override {
    return {.name = "reference",
            .detail = "float64",
            .threads = 1,
            .precision = options_.precision,
            .kv_dtype = options_.kv_dtype};
  }

  // What a device cannot do it refuses here or in state(), with std::invalid_argument or std::runtime_error,
  // and never in the middle of a step. This one can do everything.
  std::unique_ptr<gptoss::Layer> load(const Config& config, const gptoss::HostLayer& layer) override {
    return std::make_unique<Layer>(reference::load(config, layer));
  }
  std::unique_ptr<gptoss::Ends> load(const Config&, const gptoss::HostEnds& ends) override {
    return std::make_unique<Ends>(reference::load(ends));
  }

  size_t page_bytes(const Config& config) const override {
    return State::page_floats(config) * sizeof(float);
  }

  gptoss::StateBytes plan(const Config& config, const Limits& limits) const override {
    State shape;
    size_t bytes = 0;
    activations(shape, config, limits,
                [&](const auto& array, size_t count) { bytes += count * sizeof(array[0]); });
    return {.kv = page_bytes(config) * limits.pages,
            .activations = bytes,
            .logits = static_cast<size_t>(limits.max_outputs) * config.vocab_size * sizeof(float),
            .kept = kept_bytes(config, limits)};
  }

  std::unique_ptr<gptoss::State> state(const Config& config, const Limits& limits) override {
    auto s = std::make_unique<State>();
    s->config = config;
    s->limits = limits;
    s->rope = gptoss::make_rope(config);
    s->precision = options_.precision;
    s->kv_dtype = options_.kv_dtype;
    activations(*s, config, limits, [](auto& array, size_t count) { array.resize(count); });
    s->logits.resize(static_cast<size_t>(limits.max_outputs) * config.vocab_size);
    s->kv.resize(State::page_floats(config) * limits.pages);
    s->kept.resize(kept_bytes(config, limits));
    return s;
  }

  void write(gptoss::State& state, Field field, const void* data, size_t bytes) override {
    with_field(static_cast<State&>(state), field, [&](auto& array) { copy_in(array, data, bytes); });
  }
  void read(gptoss::State& state, Field field, void* data, size_t bytes) override {
    with_field(static_cast<State&>(state), field, [&](const auto& array) { copy_out(array, data, bytes); });
  }

  void copy_page(gptoss::State& state, int from, int to) override {
    auto& s = static_cast<State&>(state);
    const size_t floats = State::page_floats(s.config);
    std::copy_n(&s.kv[from * floats], floats, &s.kv[to * floats]);
  }

  // Recorded like a stage: the field is copied as it is when wait() gets there.
  void keep(gptoss::State& state, Field field, int layer, const Batch& batch) override {
    auto& s = static_cast<State&>(state);
    if (batch.tokens > s.limits.max_kept) throw std::invalid_argument("more tokens than can be kept");
    s.queue.push_back(
        [&s, field, slot = kept_slot(s, field, layer), bytes = token_bytes(s.config, field) * batch.tokens] {
          with_field(s, field, [&](const auto& array) { copy_out(array, slot, bytes); });
        });
  }
  void read_kept(gptoss::State& state, Field field, int layer, void* data, size_t bytes) override {
    auto& s = static_cast<State&>(state);
    if (bytes > token_bytes(s.config, field) * s.limits.max_kept)
      throw std::logic_error("more than was kept");
    if (bytes) std::memcpy(data, kept_slot(s, field, layer), bytes);
  }

  Ticket submit(gptoss::State& state, const Batch&, const std::function<void()>& enqueue,
                const InterruptPoll&) override {
    auto& s = static_cast<State&>(state);
    s.queue.clear();
    enqueue();
    return ++s.ticket;
  }

  void wait(gptoss::State& state, Ticket ticket, const InterruptPoll& poll) override {
    auto& s = static_cast<State&>(state);
    if (ticket != s.ticket) throw std::logic_error("a ticket of another step");
    const std::vector<std::function<void()>> stages = std::move(s.queue);
    s.queue.clear();
    s.poll = &poll;
    s.last_poll = std::chrono::steady_clock::now();
    for (const auto& stage : stages) stage();
  }

  using S = gptoss::State;
  using L = gptoss::Layer;
  using E = gptoss::Ends;
  void embed(S& s, const E& e, const Batch& b) override { enqueue(s, e, b, reference::embed); }
  void attn_qkv(S& s, const L& l, const Batch& b) override { enqueue(s, l, b, reference::attn_qkv); }
  void attn(S& s, const L& l, const Batch& b) override { enqueue(s, l, b, reference::attn); }
  void attn_out(S& s, const L& l, const Batch& b) override { enqueue(s, l, b, reference::attn_out); }
  void moe_route(S& s, const L& l, const Batch& b) override { enqueue(s, l, b, reference::moe_route); }
  void moe_up(S& s, const L& l, const Batch& b) override { enqueue(s, l, b, reference::moe_up); }
  void moe_down(S& s, const L& l, const Batch& b) override { enqueue(s, l, b, reference::moe_down); }
  void unembed(S& s, const E& e, const Batch& b) override { enqueue(s, e, b, reference::unembed); }
  void sample(S& s, const E& e, const Batch& b) override { enqueue(s, e, b, reference::sample); }

 private:
  // A stage sees what it needs when it runs: host counts by value, everything else in the State.
  template <class Base, class Weights>
  static void enqueue(gptoss::State& state, const Base& weights, const Batch& batch,
                      void (*stage)(State&, const Weights&, const Batch&)) {
    auto& s = static_cast<State&>(state);
    s.queue.push_back([&s, &w = static_cast<const Weights&>(weights), batch, stage] { stage(s, w, batch); });
  }

  gptoss::BackendOptions options_;
};

bool probe(char* detail, size_t detail_bytes) {
  std::snprintf(detail, detail_bytes, "plain loops, for tests");
  return true;
}

gptoss::Backend* create(const gptoss::BackendOptions* options, char* error, size_t error_bytes) {
  try {
    if (options->index > 0) throw std::invalid_argument("there is only one");
    return new Device(*options);
  } catch (const std::exception& e) {  // nothing may be thrown through this function
    std::snprintf(error, error_bytes, "%s", e.what());
    return nullptr;
  }
}

}  // namespace
}  // namespace reference

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, reference::probe, reference::create};
  return &plugin;
}
