// Observation: a device that is another one and keeps what its stages make.
#pragma once

#include <utility>
#include <vector>

#include "backend.h"

namespace gptoss {

// Wraps a device for one step: every stage runs as it is, and after the stage that makes an observed field the
// field is kept for that layer. `residual` is kept after moe_down: the output of the layer.
class RecordingBackend : public Backend {
 public:
  RecordingBackend(Backend& device, std::vector<Field> fields) : device_(device), fields_(std::move(fields)) {}

  DeviceFacts facts() const override { return device_.facts(); }
  std::unique_ptr<Layer> load(const Config& c, const HostLayer& l) override { return device_.load(c, l); }
  std::unique_ptr<Ends> load(const Config& c, const HostEnds& e) override { return device_.load(c, e); }
  size_t page_bytes(const Config& c) const override { return device_.page_bytes(c); }
  StateBytes plan(const Config& c, const Limits& l) const override { return device_.plan(c, l); }
  std::unique_ptr<State> state(const Config& c, const Limits& l) override { return device_.state(c, l); }
  void write(State& s, Field f, const void* data, size_t bytes) override { device_.write(s, f, data, bytes); }
  void read(State& s, Field f, void* data, size_t bytes) override { device_.read(s, f, data, bytes); }
  void copy_page(State& s, int from, int to) override { device_.copy_page(s, from, to); }
  void keep(State& s, Field f, int layer, const Batch& b) override { device_.keep(s, f, layer, b); }
  void read_kept(State& s, Field f, int layer, void* data, size_t bytes) override { device_.read_kept(s, f, layer, data, bytes); }
  Ticket submit(State& s, const Batch& b, const std::function<void()>& enqueue, const InterruptPoll& poll) override {
    return device_.submit(s, b, enqueue, poll);
  }
  void wait(State& s, Ticket t, const InterruptPoll& poll) override { device_.wait(s, t, poll); }
  bool runs_ahead() const override { return device_.runs_ahead(); }

  void embed(State& s, const Ends& e, const Batch& b) override { device_.embed(s, e, b); }
  void attn_qkv(State& s, const Layer& l, const Batch& b) override { device_.attn_qkv(s, l, b); }
  void attn(State& s, const Layer& l, const Batch& b) override {
    device_.attn(s, l, b);
    keep_of({Field::attn, Field::lse}, s, l, b);
  }
  void attn_out(State& s, const Layer& l, const Batch& b) override { device_.attn_out(s, l, b); }
  void moe_route(State& s, const Layer& l, const Batch& b) override { device_.moe_route(s, l, b); }
  void moe_up(State& s, const Layer& l, const Batch& b) override {
    device_.moe_up(s, l, b);
    keep_of({Field::router_logits, Field::router_choice, Field::router_weight}, s, l, b);
  }
  void moe_down(State& s, const Layer& l, const Batch& b) override {
    device_.moe_down(s, l, b);
    keep_of({Field::residual}, s, l, b);
  }
  void unembed(State& s, const Ends& e, const Batch& b) override { device_.unembed(s, e, b); }
  void sample(State& s, const Ends& e, const Batch& b) override { device_.sample(s, e, b); }

 private:
  void keep_of(std::initializer_list<Field> made, State& s, const Layer& l, const Batch& b) {
    for (Field field : made)
      for (Field wanted : fields_)
        if (field == wanted) device_.keep(s, field, l.index, b);
  }

  Backend& device_;
  std::vector<Field> fields_;
};

}  // namespace gptoss
