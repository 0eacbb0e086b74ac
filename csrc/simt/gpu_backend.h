// A GPU behind the contract: SIMT kernels that are right for all nine stages and any number of tokens.
//
// submit() writes the calls of a step down before anything runs. A small step (decode) whose calls came
// before, up to the bucket of its counts, is captured as a graph the second time and replayed from then on;
// others are put into the stream layer by layer, never more than two ahead of the device, so that the caller
// can stop in between.
#pragma once

#include "gpu_state.h"
#include "matrix_kernels.h"

namespace gptoss::simt {

class GpuBackend : public Backend {
 public:
  // `index`: which of the runtime's devices. `name` and `detail` are for facts(). `matrix`: null where SIMT does all.
  GpuBackend(const BackendOptions& options, int index, std::string name, std::string detail,
             std::unique_ptr<MatrixKernels> matrix = nullptr);

  DeviceFacts facts() const override;
  std::unique_ptr<Layer> load(const Config& config, const HostLayer& layer) override;
  std::unique_ptr<Ends> load(const Config& config, const HostEnds& ends) override;
  size_t page_bytes(const Config& config) const override;
  StateBytes plan(const Config& config, const Limits& limits) const override;
  std::unique_ptr<State> state(const Config& config, const Limits& limits) override;
  void write(State& state, Field field, const void* data, size_t bytes) override;
  void read(State& state, Field field, void* data, size_t bytes) override;
  void copy_page(State& state, int from, int to) override;
  void keep(State& state, Field field, int layer, const Batch& batch) override;
  void read_kept(State& state, Field field, int layer, void* data, size_t bytes) override;
  Ticket submit(State& state, const Batch& batch, const std::function<void()>& enqueue,
                const InterruptPoll& poll) override;
  void wait(State& state, Ticket ticket, const InterruptPoll& poll) override;
  // Where copies do not wait, and a step is started as a whole: otherwise submit() comes back when most of it is done.
  bool runs_ahead() const override { return kCopiesAreAsynchronous && graphs_ && ahead_; }

  void embed(State& s, const Ends& e, const Batch& b) override { write_down(s, Stage::embed, e, b); }
  void attn_qkv(State& s, const Layer& l, const Batch& b) override { write_down(s, Stage::attn_qkv, l, b); }
  void attn(State& s, const Layer& l, const Batch& b) override { write_down(s, Stage::attn, l, b); }
  void attn_out(State& s, const Layer& l, const Batch& b) override { write_down(s, Stage::attn_out, l, b); }
  void moe_route(State& s, const Layer& l, const Batch& b) override { write_down(s, Stage::moe_route, l, b); }
  void moe_up(State& s, const Layer& l, const Batch& b) override { write_down(s, Stage::moe_up, l, b); }
  void moe_down(State& s, const Layer& l, const Batch& b) override { write_down(s, Stage::moe_down, l, b); }
  void unembed(State& s, const Ends& e, const Batch& b) override { write_down(s, Stage::unembed, e, b); }
  void sample(State& s, const Ends& e, const Batch& b) override { write_down(s, Stage::sample, e, b); }

  std::unique_ptr<Ops> ops() override;

  // How the steps so far were run.
  struct Counters {
    int eager = 0, captured = 0, replayed = 0;
  };
  const Counters& counters() const { return counters_; }
  void use_graphs(bool use) { graphs_ = use; }  // on unless a test compares
  void use_steps_ahead(bool use) { ahead_ = use; }  // likewise
  // For states made from then on: kernels of a step begin while the ones before them end. For cards that can.
  void use_dependent_launches(bool use) { dependent_launches_ = use; }

 protected:
  // Puts the stage's kernels into the state's stream.
  virtual void run(GpuState& state, const Call& call);
  // Where the device reads this tensor of the checkpoint itself; null if it has to be copied.
  virtual const void* map(const Tensor&, Mappings&) { return nullptr; }
  // Whether it does so wherever a tensor's address allows it.
  virtual bool maps_tensors() const { return false; }

  bool step_is_one_chunk_ = false;  // all of it is started together, though the caller may then wait longer to stop it
  BackendOptions options_;

 private:
  friend class GpuOps;

  void use_device() const;
  // In the device's memory: what load() has taken, or, before, what it will for a checkpoint with MXFP4 experts.
  size_t weight_bytes(const Config& config) const;
  void send(GpuState& state, void* to, const void* data, size_t bytes, const char* what);
  static void write_down(State& state, Stage stage, const Layer& layer, const Batch& batch);
  static void write_down(State& state, Stage stage, const Ends& ends, const Batch& batch);
  // The step with the same calls, remembered or new; null where it is no step for a graph.
  static RecordedStep* recorded(GpuState& state);
  void run_call(GpuState& state, size_t i);
  void run_eagerly(GpuState& state, const InterruptPoll& poll);
  void run_keep(GpuState& state, const Call& call);

  MatrixNeeds needs(const Config& config, const Limits& limits) const;

  int index_;
  std::string name_, detail_;
  std::unique_ptr<MatrixKernels> matrix_;
  Counters counters_;
  size_t loaded_bytes_ = 0;  // of weights
  bool graphs_ = true, ahead_ = true, dependent_launches_ = false;
};

}  // namespace gptoss::simt
