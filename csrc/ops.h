// The kernels of a device one by one, for gptoss_native.ops, its tests and its benches: a service that a device
// may offer. They are the kernels that its stages are made of, and no others.
//
// An operation is prepared once and run as often as one likes. Preparing does what load() and earlier stages do:
// it groups by expert, fills pages, converts biases, packs activations. Running is what is timed. Operands are
// memory of the device, contiguous, and outlive the operation; biases, gains and sinks are bf16 as in the
// checkpoint, null for none. Precision and KV dtype are those of the backend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "sampling.h"

namespace gptoss {

// y (tokens, rows) = x (tokens, k) weight (rows, k)' + bias (rows); weight bf16
struct LinearOp {
  const float* x = nullptr;
  const uint16_t *weight = nullptr, *bias = nullptr;
  float* y = nullptr;
  int tokens = 0, rows = 0, k = 0;
};

// Weights (experts, rows, k) in MXFP4.
struct Mxfp4Experts {
  const uint8_t* blocks = nullptr;   // (experts, rows, k / 32, 16)
  const uint8_t* scales = nullptr;   // (experts, rows, k / 32)
  const uint16_t* bias = nullptr;    // (experts, rows)
  int experts = 0, rows = 0, k = 0;
};

// y (tokens, chosen, rows / 2) = swiglu(weight_e x (tokens, k) + bias_e) for e = choice (tokens, chosen)
struct MoeUpOp {
  const float* x = nullptr;
  Mxfp4Experts experts;
  const int32_t* choice = nullptr;
  float* y = nullptr;
  int tokens = 0, chosen = 0;
  float limit = 0, alpha = 0;
};

// y (tokens, rows) = sum over rank of weight (tokens, chosen) * (experts_e h (tokens, chosen, k) + bias_e).
// Without `weight` chosen is 1 and so is every weight: one product, grouped by expert.
struct MoeDownOp {
  const float* h = nullptr;
  Mxfp4Experts experts;
  const int32_t* choice = nullptr;  // null: expert 0
  const float* weight = nullptr;
  float* y = nullptr;
  int tokens = 0, chosen = 1;
};

// attn (tokens, heads, head_dim), lse (tokens, heads): of each sequence, the last `query_counts` of its `key_counts`
// positions attend to those up to their own, or to the last `window` of these. Sequences lie one behind the other, in
// q as in k and v; see ragged.h.
struct AttentionOp {
  const float* q = nullptr;                  // (tokens, heads, head_dim)
  const float *k = nullptr, *v = nullptr;    // (keys, kv_heads, head_dim)
  const uint16_t* sinks = nullptr;           // (heads)
  float *attn = nullptr, *lse = nullptr;
  // (sequences), on the host, read while the operation is prepared; from 1, and no fewer keys than queries
  const int32_t *query_counts = nullptr, *key_counts = nullptr;
  int sequences = 0;
  int tokens = 0, keys = 0;  // of all sequences
  int heads = 0, kv_heads = 0, head_dim = 0;
  int window = 0;  // 0: all
};

// y (tokens, size) = x / sqrt(mean(x^2) + eps) * gain
struct NormOp {
  const float* x = nullptr;
  const uint16_t* gain = nullptr;
  float* y = nullptr;
  int tokens = 0, size = 0;
  float eps = 0;
};

// y (tokens, heads, head_dim) = x, each pair (j, j + head_dim / 2) turned by position * inv_freq[j] and scaled.
struct RopeOp {
  const float* x = nullptr;
  const int32_t* position = nullptr;  // (tokens), on the host
  const float* inv_freq = nullptr;    // (head_dim / 2), on the host
  double concentration = 1;
  float* y = nullptr;
  int tokens = 0, heads = 0, head_dim = 0;
};

// choice, weight (tokens, chosen): the largest of logits (tokens, experts), lowest id on ties, and their softmax.
struct RouteOp {
  const float* logits = nullptr;
  int32_t* choice = nullptr;
  float* weight = nullptr;
  int tokens = 0, experts = 0, chosen = 0;
};

// y (tokens, size) = swiglu(u (tokens, 2 size)), gate and up interleaved; size a multiple of 32.
struct SwigluOp {
  const float* u = nullptr;
  float* y = nullptr;
  int tokens = 0, size = 0;
  float limit = 0, alpha = 0;
};

// y (rows, k) = the weights as floats
struct DequantizeOp {
  const uint8_t *blocks = nullptr, *scales = nullptr;
  float* y = nullptr;
  int rows = 0, k = 0;
};

// One draw from each row of logits (rows, vocab), as sampling.h says. Parameters lie on the host.
struct SampleOp {
  const float* logits = nullptr;
  const SampleParams* params = nullptr;  // (rows); params[i].row is i
  const int32_t* position = nullptr;     // (rows): of the token being drawn
  const TokenEdit* edits = nullptr;
  const uint32_t* masks = nullptr;       // (masks, ceil(vocab / 32))
  int32_t* next_token = nullptr;
  float* logprob = nullptr;
  int32_t* top_token = nullptr;          // (rows, kMaxLogprobs)
  float* top_logprob = nullptr;
  int rows = 0, vocab = 0, edit_count = 0, mask_count = 0;
};

class Operation {
 public:
  virtual ~Operation() = default;
  virtual void run() = 0;     // a device may return before it is done
  virtual void finish() {}    // once, after the last run: results as the caller reads them
};

// A place as DLPack names it.
struct MemoryPlace {
  int type = 1;  // kDLCPU
  int index = 0;
};

// Streams are the device runtime's own handles; a device without streams ignores them.
using StreamHandle = uintptr_t;

class Ops {
 public:
  virtual ~Ops() = default;

  virtual MemoryPlace place() const = 0;
  virtual std::shared_ptr<void> allocate(size_t bytes) = 0;
  // Both return when it is done.
  virtual void copy_in(void* to, const void* from, size_t bytes, StreamHandle stream) = 0;
  virtual void copy_out(void* to, const void* from, size_t bytes, StreamHandle stream) = 0;
  virtual StreamHandle stream() = 0;                                // its own
  virtual void order(StreamHandle first, StreamHandle then) = 0;    // what `then` does next waits for `first`
  virtual void wait(StreamHandle stream) = 0;

  // Each runs in `stream`.
  virtual std::unique_ptr<Operation> linear(const LinearOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> moe_up(const MoeUpOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> moe_down(const MoeDownOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> attention(const AttentionOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> rms_norm(const NormOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> rope(const RopeOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> route(const RouteOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> swiglu(const SwigluOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> dequantize(const DequantizeOp& op, StreamHandle stream) = 0;
  virtual std::unique_ptr<Operation> sample(const SampleOp& op, StreamHandle stream) = 0;

  // Seconds of each round by the device's own clock; a round runs all of `operations`, which were prepared in
  // stream().
  virtual std::vector<double> time(const std::vector<Operation*>& operations, int rounds) = 0;
  // The device's own ceilings: bytes per second of a plain read of `bytes`, float32 FLOP per second of
  // multiply-adds on registers.
  virtual double read_bandwidth(size_t bytes, double seconds) = 0;
  virtual double fma_rate(double seconds) = 0;
  // bf16 FLOP per second of the matrix units that the kernels use; 0 where they use none.
  virtual double matrix_rate(double) { return 0; }
};

}  // namespace gptoss
