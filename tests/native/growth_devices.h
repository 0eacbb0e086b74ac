// Devices made of other devices, which forward() does not notice: two in one, one that fails where it is told to, and
// one that changes what flows between the stages.
#pragma once

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "recording.h"

namespace test {

using namespace gptoss;

// Attention, embedding and head live on one device, the experts on another; the residual stream moves between.
class TwoDevices : public Backend {
 public:
  TwoDevices(std::unique_ptr<Backend> attention, std::unique_ptr<Backend> experts)
      : attention_(std::move(attention)), experts_(std::move(experts)) {}

  DeviceFacts facts() const override {
    DeviceFacts facts = attention_->facts();
    facts.name = "two devices";
    return facts;
  }
  std::unique_ptr<Layer> load(const Config& c, const HostLayer& host) override {
    auto both = std::make_unique<Both>();
    both->attention = attention_->load(c, host);
    both->experts = experts_->load(c, host);
    return both;
  }
  std::unique_ptr<Ends> load(const Config& c, const HostEnds& host) override {
    return attention_->load(c, host);
  }
  size_t page_bytes(const Config& c) const override { return attention_->page_bytes(c); }
  StateBytes plan(const Config& c, const Limits& limits) const override {
    const StateBytes a = attention_->plan(c, limits), e = experts_->plan(c, without_cache(limits));
    return {.weights = a.weights + e.weights,
            .kv = a.kv + e.kv,
            .activations = a.activations + e.activations,
            .logits = a.logits + e.logits,
            .kept = a.kept + e.kept};
  }
  std::unique_ptr<State> state(const Config& c, const Limits& limits) override {
    auto both = std::make_unique<BothStates>();
    both->attention = attention_->state(c, limits);
    both->experts = experts_->state(c, without_cache(limits));
    both->residual.resize(static_cast<size_t>(limits.max_tokens) * c.hidden_size);
    both->hidden_size = c.hidden_size;
    return both;
  }
  void write(State& s, Field f, const void* data, size_t bytes) override {
    device_of(f).write(state_of(s, f), f, data, bytes);
  }
  void read(State& s, Field f, void* data, size_t bytes) override {
    device_of(f).read(state_of(s, f), f, data, bytes);
  }
  void copy_page(State& s, int from, int to) override { attention_->copy_page(first(s), from, to); }
  void keep(State& s, Field f, int layer, const Batch& b) override {
    device_of(f).keep(state_of(s, f), f, layer, b);
  }
  void read_kept(State& s, Field f, int layer, void* data, size_t bytes) override {
    device_of(f).read_kept(state_of(s, f), f, layer, data, bytes);
  }
  Ticket submit(State& s, const Batch& b, const std::function<void()>& enqueue,
                const InterruptPoll& poll) override {
    return attention_->submit(
        first(s), b, [&] { experts_->wait(second(s), experts_->submit(second(s), b, enqueue, poll), poll); },
        poll);
  }
  void wait(State& s, Ticket t, const InterruptPoll& poll) override { attention_->wait(first(s), t, poll); }

  void embed(State& s, const Ends& e, const Batch& b) override { attention_->embed(first(s), e, b); }
  void attn_qkv(State& s, const Layer& l, const Batch& b) override {
    attention_->attn_qkv(first(s), attention_part(l), b);
  }
  void attn(State& s, const Layer& l, const Batch& b) override {
    attention_->attn(first(s), attention_part(l), b);
  }
  void attn_out(State& s, const Layer& l, const Batch& b) override {
    attention_->attn_out(first(s), attention_part(l), b);
  }
  void moe_route(State& s, const Layer& l, const Batch& b) override {
    move_residual(s, *attention_, first(s), *experts_, second(s), b);
    experts_->moe_route(second(s), expert_part(l), b);
  }
  void moe_up(State& s, const Layer& l, const Batch& b) override {
    experts_->moe_up(second(s), expert_part(l), b);
  }
  void moe_down(State& s, const Layer& l, const Batch& b) override {
    experts_->moe_down(second(s), expert_part(l), b);
    move_residual(s, *experts_, second(s), *attention_, first(s), b);
  }
  void unembed(State& s, const Ends& e, const Batch& b) override { attention_->unembed(first(s), e, b); }
  void sample(State& s, const Ends& e, const Batch& b) override { attention_->sample(first(s), e, b); }

 private:
  struct Both : Layer {
    std::unique_ptr<Layer> attention, experts;
  };
  struct BothStates : State {
    std::unique_ptr<State> attention, experts;
    std::vector<float> residual;  // on its way from one to the other
    size_t hidden_size = 0;
  };

  static Limits without_cache(Limits limits) {
    limits.pages = 0;
    return limits;
  }
  static bool of_experts(Field f) {
    return f == Field::router_logits || f == Field::router_choice || f == Field::router_weight;
  }
  Backend& device_of(Field f) { return of_experts(f) ? *experts_ : *attention_; }
  static State& first(State& s) { return *static_cast<BothStates&>(s).attention; }
  static State& second(State& s) { return *static_cast<BothStates&>(s).experts; }
  static State& state_of(State& s, Field f) { return of_experts(f) ? second(s) : first(s); }

  // The engine numbers the layer that it was given; its parts are numbered alike.
  static const Layer& numbered(Layer& part, const Layer& whole) {
    part.index = whole.index;
    part.type = whole.type;
    part.cache_index = whole.cache_index;
    return part;
  }
  static const Layer& attention_part(const Layer& l) {
    return numbered(*static_cast<const Both&>(l).attention, l);
  }
  static const Layer& expert_part(const Layer& l) {
    return numbered(*static_cast<const Both&>(l).experts, l);
  }

  static void move_residual(State& s, Backend& from, State& from_state, Backend& to, State& to_state,
                            const Batch& b) {
    auto& both = static_cast<BothStates&>(s);
    const size_t bytes = static_cast<size_t>(b.tokens) * both.hidden_size * sizeof(float);
    from.read(from_state, Field::residual, both.residual.data(), bytes);
    to.write(to_state, Field::residual, both.residual.data(), bytes);
  }

  std::unique_ptr<Backend> attention_, experts_;
};

struct Owned {  // a base, so that the device is there before what wraps it
  std::unique_ptr<Backend> owned;
};

// Forwards every call, and tells `before` and `after` its name; either may throw. With no fields to record, a
// RecordingBackend is plain forwarding.
class WatchedDevice : private Owned, public RecordingBackend {
 public:
  explicit WatchedDevice(std::unique_ptr<Backend> device)
      : Owned{std::move(device)}, RecordingBackend(*owned, {}) {}

  std::function<void(const std::string& call)> before, after;
  const InterruptPoll* poll = nullptr;  // of the step, while its stages are called

  void write(State& s, Field f, const void* data, size_t bytes) override {
    watch("write " + std::to_string(static_cast<int>(f)), [&] { owned->write(s, f, data, bytes); });
  }
  void read(State& s, Field f, void* data, size_t bytes) override {
    watch("read " + std::to_string(static_cast<int>(f)), [&] { owned->read(s, f, data, bytes); });
  }
  void copy_page(State& s, int from, int to) override {
    watch("copy_page", [&] { owned->copy_page(s, from, to); });
  }
  void keep(State& s, Field f, int layer, const Batch& b) override {
    watch("keep", [&] { owned->keep(s, f, layer, b); });
  }
  void read_kept(State& s, Field f, int layer, void* data, size_t bytes) override {
    watch("read_kept", [&] { owned->read_kept(s, f, layer, data, bytes); });
  }
  Ticket submit(State& s, const Batch& b, const std::function<void()>& enqueue,
                const InterruptPoll& asked) override {
    struct Asking {
      WatchedDevice& device;
      ~Asking() { device.poll = nullptr; }
    } asking{*this};
    Ticket ticket = 0;
    watch("submit", [&] {
      poll = asked ? &asked : nullptr;
      ticket = owned->submit(s, b, enqueue, asked);
    });
    return ticket;
  }
  void wait(State& s, Ticket t, const InterruptPoll& asked) override {
    watch("wait", [&] { owned->wait(s, t, asked); });
  }
  void embed(State& s, const Ends& e, const Batch& b) override {
    watch("embed", [&] { owned->embed(s, e, b); });
  }
  void attn_qkv(State& s, const Layer& l, const Batch& b) override {
    watch("attn_qkv", l, [&] { owned->attn_qkv(s, l, b); });
  }
  void attn(State& s, const Layer& l, const Batch& b) override {
    watch("attn", l, [&] { owned->attn(s, l, b); });
  }
  void attn_out(State& s, const Layer& l, const Batch& b) override {
    watch("attn_out", l, [&] { owned->attn_out(s, l, b); });
  }
  void moe_route(State& s, const Layer& l, const Batch& b) override {
    watch("moe_route", l, [&] { owned->moe_route(s, l, b); });
  }
  void moe_up(State& s, const Layer& l, const Batch& b) override {
    watch("moe_up", l, [&] { owned->moe_up(s, l, b); });
  }
  void moe_down(State& s, const Layer& l, const Batch& b) override {
    watch("moe_down", l, [&] { owned->moe_down(s, l, b); });
    if (change_residual) change_residual(*owned, s, l.index, b);
  }
  void unembed(State& s, const Ends& e, const Batch& b) override {
    watch("unembed", [&] { owned->unembed(s, e, b); });
  }
  void sample(State& s, const Ends& e, const Batch& b) override {
    watch("sample", [&] { owned->sample(s, e, b); });
  }

  // Between two layers: may read and write the residual stream of the step.
  std::function<void(Backend& device, State&, int layer, const Batch&)> change_residual;

 private:
  template <class Call>
  void watch(const std::string& name, const Call& call) {
    if (before) before(name);
    call();
    if (after) after(name);
  }
  template <class Call>
  void watch(const std::string& name, const Layer& layer, const Call& call) {
    watch(name + " of layer " + std::to_string(layer.index), call);
  }
};

}  // namespace test
