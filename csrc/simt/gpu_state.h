// What a GPU device holds: weights in one block a layer, activations and the KV pool in one block each.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "../args.h"
#include "../backend.h"
#include "runtime.h"

namespace gptoss::simt {

// Host memory that a device reads where it lies.
using Mappings = std::vector<std::shared_ptr<void>>;

// bf16 (rows, k), or the same as MatrixKernels have arranged it: one of the two is null.
struct Matrix {
  uint16_t* rows = nullptr;
  uint8_t* arranged = nullptr;
};

struct GpuLayer : Layer {
  uint64_t id = 0;  // of all weights that this process ever loaded: addresses are used again, ids are not
  DeviceMemory memory;
  Mappings mappings;
  Matrix qkv, o, router;  // q, k and v are one matrix
  float *qkv_bias = nullptr, *o_bias = nullptr, *router_bias = nullptr;
  float *input_layernorm = nullptr, *post_attention_layernorm = nullptr, *sinks = nullptr;
  ExpertArgs gate_up{}, down{};
};

struct GpuEnds : Ends {
  uint64_t id = 0;
  DeviceMemory memory;
  Mappings mappings;
  uint16_t* embed_tokens = nullptr;
  Matrix lm_head;
  float* norm = nullptr;
};

enum class Stage : uint8_t {
  embed, attn_qkv, attn, attn_out, moe_route, moe_up, moe_down, unembed, sample, keep,
};
const char* name(Stage stage);

// One call of the contract, written down by submit() before anything runs.
struct Call {
  Stage stage;
  const Layer* layer = nullptr;
  const Ends* ends = nullptr;
  uint64_t weights = 0;  // their id
  Batch grid{};          // counts that the grids are made for: buckets, not the live ones
  Field field{};         // of keep()
  int index = 0;         // of keep(): the layer; and
  int kept = 0;          // the tokens
};
// Whether both put the same work into a stream.
bool same(const std::vector<Call>& a, const std::vector<Call>& b);

struct RecordedStep {
  std::vector<Call> calls;
  bool captured = false;
  Graph graph{};
};

// Shapes, and where everything is.
struct Buffers {
  Config config;
  Limits limits;
  int splits = 0;          // of a whole context
  size_t mask_words = 0;
  size_t page_bytes = 0, page_layer_bytes = 0, page_head_bytes = 0;

  // Inputs and results; see Field.
  LiveCounts* live = nullptr;
  int32_t *token = nullptr, *position = nullptr, *sequence = nullptr;
  int32_t *full_pages = nullptr, *window_pages = nullptr, *row = nullptr;
  SampleParams* sampling = nullptr;
  TokenEdit* edits = nullptr;
  uint32_t* masks = nullptr;
  int32_t* next_token = nullptr;
  float* logprob = nullptr;
  int32_t* top_token = nullptr;
  float* top_logprob = nullptr;
  float *residual = nullptr, *attn = nullptr, *lse = nullptr, *router_logits = nullptr, *router_weight = nullptr;
  int32_t* router_choice = nullptr;
  float* logits = nullptr;

  // Between stages.
  float *inv_freq = nullptr, *rope_cos = nullptr, *rope_sin = nullptr;
  double concentration = 1;
  // What the next product multiplies: (tokens or rows, hidden_size or q_size), float32 or bf16 terms.
  float* operand = nullptr;
  uint16_t* operand_terms = nullptr;
  float* qkv = nullptr;      // (tokens, q_size + 2 kv_size)
  float* partial = nullptr;  // (split tokens, heads, splits, 2 + head_dim)
  int32_t* pairs = nullptr;  // see GroupArgs
  ExpertTile* tiles = nullptr;
  int32_t* tile_count = nullptr;
  float* expert_h = nullptr;  // (pairs, intermediate_size), or
  uint16_t* expert_h_terms = nullptr;
  float* expert_y = nullptr;  // (pairs, hidden_size)
  SampleSlice* sample_slices = nullptr;
  unsigned long long* sample_bins = nullptr;
  int32_t *sample_collected = nullptr, *sample_candidates = nullptr;
  uint8_t* kept = nullptr;    // (layers, fields that can be kept, max_kept tokens)
  uint8_t* scratch = nullptr;  // of MatrixKernels
};

// What a step has of the host's memory. Two steps are under way at most.
struct Flight {
  PinnedMemory inputs;   // what is on its way to the device
  size_t used = 0;
  bool mine = false;     // the step being written; before that, the last one that had it may still copy
  PinnedMemory results;  // next_token to top_logprob, as the step left them
  Event end;
};

struct GpuState : State, Buffers {
  GpuState() = default;
  explicit GpuState(GPU(Stream_t) other) : stream(other) {}

  DeviceMemory activations_memory, logits_memory, kv, kept_memory;

  bool dependent_launches = false;
  const Call* next = nullptr;            // behind the call that is run now
  const Layer* routed = nullptr;         // of this layer, moe_route was done with attn_out
  const Layer* attn_in_terms = nullptr;  // of this layer, its attention lies in operand_terms
  bool behind_a_kernel = false;  // what was put into the stream last is a kernel of a step

  // The step that is being written down, and earlier ones that may be replayed; the newest last.
  std::vector<Call> calls, calls_before;  // those of the step before
  std::deque<RecordedStep> steps;
  Ticket ticket = 0, waited = 0;  // of the step that was submitted last, and waited for last
  Flight& flight(Ticket of) { return flights[of % 2]; }
  Flight flights[2];
  Stream stream;
  Event chunk[2];  // ends of the pieces of an eager step
};

// What of a step the host needs: its results, in one piece.
struct ResultBlock {
  uint8_t* data;
  size_t bytes;
};
inline ResultBlock result_block(const Buffers& s) {
  auto* const first = reinterpret_cast<uint8_t*>(s.next_token);
  auto* const end = reinterpret_cast<uint8_t*>(s.top_logprob + static_cast<size_t>(s.limits.max_sequences) * kMaxLogprobs);
  return {first, static_cast<size_t>(end - first)};
}
// And what a step is told, but for token edits, masks and prompts of more tokens than a decode step has.
size_t input_bytes(const Buffers& s);

struct Place {
  void* data;
  size_t bytes;
};
Place place(const Buffers& s, Field field);

// Of bf16, that an activation becomes for matrix cores.
inline int operand_terms(Precision precision) { return precision == Precision::fast ? 1 : 3; }

// What MatrixKernels add to a state; nothing without them.
struct MatrixNeeds {
  int terms = 0;  // of an activation
  size_t scratch_bytes = 0;
};
// What samples of one step need beside their inputs.
void arrange_sampling(Buffers& s, size_t samples, size_t vocab, Arena& arena);
// Sets shapes, and points into `activations` and `logits`, or counts what they need.
void arrange(Buffers& s, const Config& config, const Limits& limits, const MatrixNeeds& needs, Arena& activations,
             Arena& logits);
size_t kept_bytes(const Config& config, const Limits& limits);
size_t token_bytes(const Config& config, Field field);
uint8_t* kept_slot(const Buffers& s, Field field, int layer);

// Steps of up to this many tokens are replayed from graphs and have their attention split; buckets are
// powers of two.
inline constexpr int kDecodeTokens = 64;
int bucket(int count);

}  // namespace gptoss::simt
