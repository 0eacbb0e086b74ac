// The contract between the model and a device: nine stages and a few services.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.h"
#include "ops.h"
#include "sampling.h"

namespace gptoss {

// Arithmetic is a choice. exact: float32 products. fast: what enters a matrix product (activations, queries,
// softmax weights) is rounded to bf16 first. Residual and accumulation are float32 in both.
enum class Precision : uint8_t { exact, fast };
enum class KvDType : uint8_t { f32, bf16 };
// How attention and unembedding weights are held: as the checkpoint has them, or in 8 bits with a power of two as the
// scale of 32 of them, made at load; see quantize.h. The embedding, the router and all vectors stay bf16.
enum class Dense : uint8_t { bf16, int8 };

// Tokens per KV page, and per block of keys that attention sums as one unit.
inline constexpr int kPageTokens = 64;
// Pages whose partial attention sums are merged before they meet the other splits'. Fixed, so that the order
// of sums is that of absolute positions whatever the chunking, the batch or the number of threads.
inline constexpr int kSplitPages = 16;

// What State must hold; nothing is allocated after it was made.
struct Limits {
  int max_context = 0;    // tokens of one sequence
  int max_sequences = 0;  // sequences of one step
  int max_tokens = 0;     // tokens of one step
  int max_outputs = 0;    // rows of logits of one step
  int max_edits = 0;      // token edits of one step
  int max_kept = 0;       // tokens of one step whose inner values may be kept; see keep()
  int pages = 0;          // KV pages of the pool
  int table_pages() const { return (max_context + kPageTokens - 1) / kPageTokens; }
};

// Host counts of a step. Whatever else differs from step to step lives in the State (see Field), so that a
// device may replay a recorded step whose counts are the same.
struct Batch {
  int tokens = 0;
  int sequences = 0;
  int rows = 0;     // rows of logits
  int samples = 0;  // tokens to draw
  // What the last layer makes of tokens that no row of logits needs is not looked at: a device may leave it out, but for
  // their keys and values.
  bool rows_only = false;
};

// What can be written before and read after a step; sizes follow Batch. A device keeps its own layout of
// everything else.
enum class Field : uint8_t {
  token,          // i32 (tokens), or drawn_before(i) on a device that runs ahead
  position,       // i32 (tokens): index in its sequence
  sequence,       // i32 (tokens): which page tables
  full_pages,     // i32 (sequences, table_pages): page of each 64 positions, for full-attention layers
  window_pages,   // i32 (sequences, table_pages): the same for sliding layers; -1 where already freed
  row,            // i32 (rows): which token's logits
  sampling,       // SampleParams (samples)
  edit,           // TokenEdit (edits)
  mask,           // u32 (masks, ceil(vocab_size / 32)): bit v % 32 of word v / 32 allows token v
  residual,       // f32 (tokens, hidden_size)
  attn,           // f32 (tokens, num_attention_heads, head_dim): attention output before attn_out
  lse,            // f32 (tokens, num_attention_heads): log of the softmax's denominator, sink included
  router_logits,  // f32 (tokens, num_local_experts)
  router_choice,  // i32 (tokens, num_experts_per_tok), most probable first
  router_weight,  // f32 (tokens, num_experts_per_tok)
  logits,         // f32 (rows, vocab_size)
  next_token,     // i32 (samples), or a DrawError
  logprob,        // f32 (samples): of the drawn token, from the logits as the model gave them
  top_token,      // i32 (samples, kMaxLogprobs): the most probable tokens, as many as asked for
  top_logprob,    // f32 (samples, kMaxLogprobs)
};
inline constexpr int kMaxLogprobs = 20;

// In place of a token: what the step before this one drew as its sample `i`.
constexpr int32_t drawn_before(int32_t sample) { return -1 - sample; }

// What next_token holds where no token could be drawn.
enum DrawError : int32_t {
  kNotFinite = -1,     // a logit is not a number, or the largest is infinite
  kNothingAllowed = -2,
};

// Bytes that a device asks for, by class: exactly these. All but `weights`, which load() makes, are State's.
struct StateBytes {
  // The CPU's: matrices in another form than the checkpoint's. A GPU's: what is in its memory, before load() with experts in
  // MXFP4.
  size_t weights = 0;
  size_t kv = 0;
  size_t activations = 0;
  size_t logits = 0;
  size_t kept = 0;
};

// What a matrix lost in load(): sqrt(sum (w - q)^2 / sum w^2), and the largest |w - q| / sqrt(mean w^2).
struct TensorError {
  std::string tensor;
  double relative_rms = 0;
  double largest = 0;
};

struct DeviceFacts {
  std::string name;    // "cpu"
  std::string detail;  // ISA, or the name of the card
  int threads = 0;     // 0 where it means nothing
  Precision precision = Precision::fast;
  KvDType kv_dtype = KvDType::bf16;
  Dense dense = Dense::bf16;
  std::vector<TensorError> errors = {};  // of the matrices loaded so far that are held in 8 bits
};

struct BackendOptions {
  Precision precision = Precision::fast;
  KvDType kv_dtype = KvDType::bf16;
  Dense dense = Dense::bf16;
  int threads = 0;       // 0: as many as cores are usable
  std::string isa;       // CPU: force one; empty: the best present
  int index = 0;         // which of several devices of this kind
};

// A device's activations and KV pool.
struct State {
  virtual ~State() = default;
};

using Ticket = uint64_t;

// Thrown by submit() when the caller asked to stop; the step left no trace that a caller can see.
struct Interrupted : std::runtime_error {
  Interrupted() : std::runtime_error("the step was interrupted") {}
};
// Asked about every 50 ms from the thread that called submit(); true stops the step.
using InterruptPoll = std::function<bool()>;

class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceFacts facts() const = 0;

  // Weights. A device may keep the views (they outlive it) or copy, fuse and shuffle. It refuses here, with
  // std::invalid_argument or std::runtime_error, what it cannot do.
  virtual std::unique_ptr<Layer> load(const Config& config, const HostLayer& layer) = 0;
  virtual std::unique_ptr<Ends> load(const Config& config, const HostEnds& ends) = 0;

  virtual size_t page_bytes(const Config& config) const = 0;  // of one KV page: 64 tokens of one type's layers
  virtual StateBytes plan(const Config& config, const Limits& limits) const = 0;
  virtual std::unique_ptr<State> state(const Config& config, const Limits& limits) = 0;
  virtual void write(State& state, Field field, const void* data, size_t bytes) = 0;
  virtual void read(State& state, Field field, void* data, size_t bytes) = 0;

  // Copies one KV page over another, both classes of layers.
  virtual void copy_page(State& state, int from, int to) = 0;

  // Observation, used by recording wrappers between stages: keep() enqueues a copy of a field, as it is then, into
  // slot (layer, field) of the state's own memory; read_kept() fetches it after the step. Limits::max_kept tokens.
  virtual void keep(State& state, Field field, int layer, const Batch& batch) = 0;
  virtual void read_kept(State& state, Field field, int layer, void* data, size_t bytes) = 0;

  // The hinge: runs, records or replays `enqueue`, which calls stages. A device may return before the work is
  // done; wait() returns when it is. Either throws Interrupted when `poll` says so.
  virtual Ticket submit(State& state, const Batch& batch, const std::function<void()>& enqueue,
                        const InterruptPoll& poll) = 0;
  virtual void wait(State& state, Ticket ticket, const InterruptPoll& poll) = 0;

  // Whether a step may be submitted while the one before it runs, so that the device has work while the host looks at
  // what came of that one. Then
  // - what submit(), write() and copy_page() were told is done in the order of the calls, on a device's own time;
  // - two steps may be under way, and wait() takes either one's ticket;
  // - next_token, logprob, top_token and top_logprob are read as the step left them that was waited for last, though
  //   the one behind it may have drawn already; every other field as the last step leaves it.
  // A device that computes in submit() gains nothing and would draw tokens that nobody wants: it says no.
  virtual bool runs_ahead() const { return false; }

  // The stages. They only enqueue: no wait, no allocation, no host read.
  // Rows of the embedding table -> residual; a new step begins.
  virtual void embed(State& state, const Ends& ends, const Batch& batch) = 0;
  // q, k, v = rope(qkv(rmsnorm(residual))); k and v are appended to the cache.
  virtual void attn_qkv(State& state, const Layer& layer, const Batch& batch) = 0;
  // attn = softmax(q k / sqrt(head_dim), sinks) v over the visible keys; lse.
  virtual void attn(State& state, const Layer& layer, const Batch& batch) = 0;
  // residual += o_proj(attn)
  virtual void attn_out(State& state, const Layer& layer, const Batch& batch) = 0;
  // t = rmsnorm(residual); router logits, the best num_experts_per_tok (lowest id on ties), their softmax.
  virtual void moe_route(State& state, const Layer& layer, const Batch& batch) = 0;
  // h = swiglu(gate_up_e(t)) for the chosen experts e.
  virtual void moe_up(State& state, const Layer& layer, const Batch& batch) = 0;
  // residual += sum over chosen e, in order of rank, of weight_e * down_e(h_e)
  virtual void moe_down(State& state, const Layer& layer, const Batch& batch) = 0;
  // logits of the rows asked for: lm_head(rmsnorm(residual)).
  virtual void unembed(State& state, const Ends& ends, const Batch& batch) = 0;
  // next_token of each SampleParams; see sampling.h.
  virtual void sample(State& state, const Ends& ends, const Batch& batch) = 0;

  // The kernels one by one; null where a device does not offer them. Of this device, which outlives it.
  virtual std::unique_ptr<Ops> ops() { return nullptr; }
};

// What a device plug-in exports, as `extern "C" const gptoss::DevicePlugin* gptoss_device()`. It is used only
// by the very build it was made with (abi_hash); no exception crosses these two functions.
struct DevicePlugin {
  uint64_t abi_hash;
  // Fills `detail` (the card, or why there is none and what to do); true if the device can be used.
  bool (*probe)(char* detail, size_t detail_bytes);
  // Returns nullptr and fills `error` on failure.
  Backend* (*create)(const BackendOptions* options, char* error, size_t error_bytes);
};

}  // namespace gptoss
