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

// The experts' products, all of them, by something better than mma.sync for MXFP4 as it is; with activations in MXFP8, which
// `rows` holds on the way (see quantize.cuh), and with weights in an order of its own.
class ScaledProducts {
 public:
  using Launch = simt::MatrixKernels::Launch;
  virtual ~ScaledProducts() = default;

  virtual std::string name() const = 0;
  virtual size_t expert_bytes(int rows, int k) const = 0;  // of one
  virtual void arrange(const simt::MatrixShape& shape, const simt::MatrixRows& from, uint8_t* to, GPU(Stream_t) stream) const = 0;
  virtual int tile(int tokens) const = 0;  // pairs of a tile of one expert
  virtual void moe_up(const MoeArgs& args, uint8_t* rows, const Launch& launch) const = 0;
  virtual void moe_down(const MoeArgs& args, uint8_t* rows, const Launch& launch) const = 0;
};

// Whether block-scaled products are asked for, of this precision: GPTOSS_CUDA_BLOCK_SCALED=1. No card has confirmed how their
// operands lie, and MXFP8 costs accuracy.
bool wants_block_scaled(const BackendOptions& options);
// What a kernel that only the loaded machine code can answer for writes.
bool kernel_says(void (*kernel)(int*), const char* of_what);

// Of the current card. Null where it has no bf16 mma.sync, or where this build has none for it. `fusion`: stages of few
// tokens are one kernel, where there is one; the bits are the same.
std::unique_ptr<simt::MatrixKernels> make_mma_kernels(const BackendOptions& options, bool fusion = true,
                                                      std::unique_ptr<WideProducts> wide = nullptr,
                                                      std::unique_ptr<ScaledProducts> scaled = nullptr);

}  // namespace gptoss::cuda
