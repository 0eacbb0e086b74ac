// The CPU device: every stage is one or two parallel loops over the kernels of the ISA in use.
#pragma once

#include "../backend.h"
#include "kernels.h"
#include "products.h"
#include "state.h"
#include "threads.h"

namespace gptoss::cpu {

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const BackendOptions& options);

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
  void wait(State&, Ticket, const InterruptPoll&) override {}

  void embed(State& state, const Ends& ends, const Batch& batch) override;
  void attn_qkv(State& state, const Layer& layer, const Batch& batch) override;
  void attn(State& state, const Layer& layer, const Batch& batch) override;
  void attn_out(State& state, const Layer& layer, const Batch& batch) override;
  void moe_route(State& state, const Layer& layer, const Batch& batch) override;
  void moe_up(State& state, const Layer& layer, const Batch& batch) override;
  void moe_down(State& state, const Layer& layer, const Batch& batch) override;
  void unembed(State& state, const Ends& ends, const Batch& batch) override;
  void sample(State& state, const Ends& ends, const Batch& batch) override;

  std::unique_ptr<Ops> ops() override;

 private:
  friend class CpuOps;

  // Runs the loop on all threads; throws Interrupted if the step was stopped.
  template <class Body>
  void parallel(int tasks, const Body& body) {
    pool_.run(tasks, body);
    if (pool_.stopped()) throw Interrupted();
  }
  // Computes every product; each block of rows goes to use(block), see products.h.
  template <class Use>
  void products(CpuState& s, Product* list, int count, const Use& use) {
    run_products(pool_, kernels_, s, options_.precision == Precision::exact, list, count, use);
  }
  // packed_rows[i] = rmsnorm(residual of tokens[i])
  void norm(CpuState& s, const std::vector<float>& gain, Tokens tokens);
  // Rotates the queries and keys of s.qkv; keys and values go to their pages.
  void rotate_append(CpuState& s, const CpuLayer& layer, int tokens);

  // A matrix of attention or the unembedding, in the form that was asked for.
  Weight dense(const Tensor& matrix, const std::string& name, std::vector<Memory>& copies);

  // Where queries and cache are bf16 and this instruction set multiplies them, queries are the columns of products, and
  // pages are laid out for it.
  bool column_attention() const {
    return kernels_.attn_split && options_.precision == Precision::fast && options_.kv_dtype == KvDType::bf16;
  }

  BackendOptions options_;
  std::vector<TensorError> errors_;
  const Kernels& kernels_;
  Pool pool_;
};

}  // namespace gptoss::cpu
