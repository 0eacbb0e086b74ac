// A device's own kernels on its matrix cores, behind the stages of csrc/simt: a plug-in may give them to GpuBackend.
//
// What they take is decided once for each matrix, when it is loaded: one with bytes() is held in their own order and
// in no other, and every product with it is theirs; any other stays in rows, and SIMT multiplies it. Attention is
// decided at each launch. So nothing falls back unseen: name() says in facts() what they take.
//
// Activations come as bf16 terms (see Operand): one in `fast`, three in `exact`. An element of a product may depend
// on its row of weights and its own activations only, whatever else is in the step: the engine's tests compare bits.
#pragma once

#include <string>

#include "../args.h"
#include "../backend.h"
#include "port.cuh"

namespace gptoss::simt {

// Weights of one kind, (experts, rows, k), in MXFP4 or bf16.
struct MatrixShape {
  enum class Use : uint8_t { qkv, attn_out, router, gate_up, down, unembed };
  Use use;
  int experts, rows, k;
  bool mxfp4;
  int head_dim = 0;  // of qkv
};

// Rows [first, first + count) of one expert as the checkpoint has them, in device memory.
struct MatrixRows {
  int expert, first, count;
  const uint16_t* dense = nullptr;   // bf16 (count, k); or
  const uint32_t* blocks = nullptr;  // (count, k / 8) and
  const uint8_t* scales = nullptr;   // (count, k / 32)
};

class MatrixKernels {
 public:
  virtual ~MatrixKernels() = default;

  virtual std::string name() const = 0;  // "products on mma.sync"

  // Of a matrix in these kernels' order; 0: not taken. Experts are taken with both matrices or with neither.
  virtual size_t bytes(const MatrixShape& shape) const = 0;
  // Enqueues the copy of some rows to their places in `to`, the whole matrix.
  virtual void arrange(const MatrixShape& shape, const MatrixRows& from, uint8_t* to, GPU(Stream_t) stream) const = 0;

  // Pairs of a tile of one expert, in a step of so many tokens; see GroupArgs.
  virtual int tile(const Config& config, int tokens) const = 0;
  // Whether what a product multiplies shall be `stepped`, in a step of so many tokens (of unembed: rows); see Operand. One
  // answer for the router and the experts.
  virtual bool stepped(MatrixShape::Use, const Config&, int /*tokens*/) const { return false; }
  // Memory for what passes between kernels of one call, or between blocks of one kernel, part of a state's activations.
  // It begins as zeros.
  virtual size_t scratch_bytes(const Config&, const Limits&) const { return 0; }

  // All enqueue. Counts are those that a grid is made for; the live ones are in device memory.
  struct Launch {
    GPU(Stream_t) stream;
    uint8_t* scratch;
    int tokens;      // or rows of activations
    bool dependent;  // kernels may begin before the one before them has ended
  };
  virtual void linear(const LinearArgs& args, const Launch& launch) const = 0;
  virtual void moe_up(const MoeArgs& args, const Launch& launch) const = 0;
  // The same of qkv, then its rotation and the cache: see rotate_append. False: nothing was enqueued, linear() is next.
  virtual bool qkv(const LinearArgs&, const AppendArgs&, const Launch&) const { return false; }
  // All of that and the norm of its activations before it, which are not written. False: not for so many tokens.
  virtual bool norm_qkv(const NormArgs&, const LinearArgs&, const AppendArgs&, const Launch&) const { return false; }
  // The norm, which is written for the experts, the router's logits, the choice and the grouping. False: as above.
  virtual bool route(const NormArgs&, const LinearArgs&, const RouteFewArgs&, const Launch&) const { return false; }
  // linear(), of attn_out, and then all of that. False: as above.
  virtual bool attn_out_route(const LinearArgs&, const NormArgs&, const LinearArgs&, const RouteFewArgs&, const Launch&) const {
    return false;
  }
  // True: with the sum over the ranks, in order of rank, which is added to the residual. False: `y` of the pairs only.
  virtual bool moe_down(const MoeArgs& args, const CombineArgs& sum, const Launch& launch) const = 0;
  // False: not this one, and nothing was enqueued.
  virtual bool attn(const AttentionArgs&, const Launch&) const { return false; }
};

}  // namespace gptoss::simt
