// The matrix kernels of NVIDIA's cards since sm_80, on mma.sync.
#pragma once

#include <memory>

#include "simt/matrix_kernels.h"

namespace gptoss::cuda {

// Products that are multiplied by something better than mma.sync where they have many columns, with the same weights.
class WideProducts {
 public:
  using Launch = simt::MatrixKernels::Launch;
  virtual ~WideProducts() = default;

  virtual std::string name() const = 0;
  // Which products these are; their activations are `stepped` then, and nobody else's are.
  virtual bool take(simt::MatrixShape::Use use, const Config& config, int tokens) const = 0;
  virtual int tile() const = 0;  // pairs of a tile of one expert

  virtual void linear(const LinearArgs& args, const Launch& launch) const = 0;
  virtual void qkv(const LinearArgs& args, const AppendArgs& append, const Launch& launch) const = 0;
  virtual void moe_up(const MoeArgs& args, const Launch& launch) const = 0;
  virtual void moe_down(const MoeArgs& args, const Launch& launch) const = 0;
  // Attention that mma.sync would take. False: not for so many tokens, and nothing was enqueued.
  virtual bool attn(const AttentionArgs&, const Launch&) const { return false; }
};

// Of the current card. Null where it has no bf16 mma.sync, or where this build has none for it. `fusion`: stages of few
// tokens are one kernel, where there is one; the bits are the same.
std::unique_ptr<simt::MatrixKernels> make_mma_kernels(const BackendOptions& options, bool fusion = true,
                                                      std::unique_ptr<WideProducts> wide = nullptr);

}  // namespace gptoss::cuda
