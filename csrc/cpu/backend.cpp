#include "backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "../numeric.h"
#include "dense.h"
#include "isa.h"
#include "products.h"

namespace gptoss::cpu {
namespace {

std::vector<float> floats(const Tensor& bf16) {
  std::vector<float> values(bf16.count());
  for (size_t i = 0; i < values.size(); ++i) values[i] = bf16_to_float(bf16.bf16()[i]);
  return values;
}

Experts experts(const Kernels& kernels, const ExpertWeights& weights, int count, int out, int in) {
  Experts result;
  for (int e = 0; e < count; ++e) {
    const size_t first_row = static_cast<size_t>(e) * out;
    Weight w{.rows = out, .k = in};
    if (!weights.dense.empty()) {
      w.data = weights.dense.bf16() + first_row * in;
      w.row_bytes = out * sizeof(uint16_t);
      w.transposed = true;
      w.dot = kernels.dot_bf16_transposed;
    } else {
      w.row_bytes = static_cast<size_t>(in) / kMxfp4Group * kMxfp4GroupBytes;
      w.scale_bytes = static_cast<size_t>(in) / kMxfp4Group;
      w.data = weights.blocks.u8() + first_row * w.row_bytes;
      w.scales = weights.scales.u8() + first_row * w.scale_bytes;
      w.dot = kernels.dot_mxfp4;
    }
    result.weight.push_back(w);
    result.bias.push_back(weights.bias.bf16() + first_row);
  }
  return result;
}

// Hands out cache-line aligned pieces of one block, or only counts them: plan() and state() cannot disagree.
class Arena {
 public:
  explicit Arena(uint8_t* base) : base_(base) {}
  template <class T>
  void take(T*& pointer, size_t count) {
    pointer = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += round_up(count * sizeof(T), 64);
  }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

constexpr int kTileQueries = 64;  // queries that share one pass over the keys

// Of the products of a stage: one of all tokens, or one of each expert, whose last tile is seldom full.
size_t panels_bytes(const Kernels& kernels, const Config& c, const Limits& limits, bool round) {
  const int few = limits.max_tokens / 4 + kTileColumns;  // those whose queries alone the last layer needs
  const int tokens = std::max(limits.max_tokens + few, limits.max_outputs), experts = c.num_local_experts;
  const int longest = std::max({c.hidden_size, c.q_size(), c.intermediate_size});
  const int pairs = limits.max_tokens * c.num_experts_per_tok;
  return kernels.panel_bytes(std::max(tokens, pairs + std::min(pairs, experts) * (kTileColumns - 1)), longest, round);
}

void set_shape(CpuState& s, const Config& c, const Limits& limits, const Kernels& kernels, Precision precision, int threads) {
  s.config = c;
  s.limits = limits;
  s.padded_dim = static_cast<int>(round_up(c.head_dim, kMaxLanes));
  s.key_dim = static_cast<int>(round_up(c.head_dim, kPackGroup));
  s.tile_tokens = std::max(1, kTileQueries / c.group_size());
  s.tile_queries = s.tile_tokens * c.group_size();
  // Enough pieces that all threads share one long sequence; a few per thread, to be balanced.
  s.split_tasks = std::min(4 * threads, 64);
  s.splits = (limits.table_pages() + kSplitPages - 1) / kSplitPages;
  const bool round = precision == Precision::fast;
  s.packed_stride = kernels.floats(std::max(c.hidden_size, c.q_size()), round);
  s.h_stride = kernels.floats(c.intermediate_size, round);
  s.panel_bytes = kernels.panel ? panels_bytes(kernels, c, limits, round) : 0;
  s.mask_words = (static_cast<size_t>(c.vocab_size) + 31) / 32;
  s.scratch.resize(static_cast<size_t>(threads));
}

// The fields that keep() knows, and the bytes that one token has in each.
constexpr Field kKeepable[] = {Field::residual,      Field::attn,          Field::lse,
                               Field::router_logits, Field::router_choice, Field::router_weight};

size_t token_bytes(const Config& c, Field field) {
  switch (field) {
    case Field::residual: return c.hidden_size * sizeof(float);
    case Field::attn: return c.q_size() * sizeof(float);
    case Field::lse: return c.num_attention_heads * sizeof(float);
    case Field::router_logits: return c.num_local_experts * sizeof(float);
    case Field::router_choice: return c.num_experts_per_tok * sizeof(int32_t);
    case Field::router_weight: return c.num_experts_per_tok * sizeof(float);
    default: throw std::invalid_argument("this field has no per-token values that could be kept");
  }
}

size_t kept_bytes(const Config& c, const Limits& limits) {
  size_t bytes = 0;
  for (Field field : kKeepable) bytes += token_bytes(c, field) * limits.max_kept;
  return bytes * c.num_hidden_layers;
}

uint8_t* kept_slot(CpuState& s, Field wanted, int layer) {
  size_t offset = kept_bytes(s.config, s.limits) / s.config.num_hidden_layers * layer;
  for (Field field : kKeepable) {
    if (field == wanted) return s.kept + offset;
    offset += token_bytes(s.config, field) * s.limits.max_kept;
  }
  throw std::invalid_argument("this field cannot be kept");
}

void arrange_logits(CpuState& s, Arena& arena) {
  arena.take(s.logits, static_cast<size_t>(s.limits.max_outputs) * s.config.vocab_size);
}

void arrange(CpuState& s, Arena& arena) {
  const Config& c = s.config;
  const size_t tokens = s.limits.max_tokens, sequences = s.limits.max_sequences, pages = s.limits.table_pages();
  const size_t pairs = tokens * c.num_experts_per_tok;
  const size_t product_rows = std::max<size_t>(tokens, s.limits.max_outputs);  // of any product of a step
  arena.take(s.token, tokens);
  arena.take(s.position, tokens);
  arena.take(s.sequence, tokens);
  arena.take(s.full_pages, sequences * pages);
  arena.take(s.window_pages, sequences * pages);
  arena.take(s.row, s.limits.max_outputs);
  arena.take(s.sampling, sequences);
  arena.take(s.edits, s.limits.max_edits);
  arena.take(s.masks, sequences * s.mask_words);
  arena.take(s.next_token, sequences);
  arena.take(s.logprob, sequences);
  arena.take(s.top_token, sequences * kMaxLogprobs);
  arena.take(s.top_logprob, sequences * kMaxLogprobs);
  arena.take(s.residual, tokens * c.hidden_size);
  arena.take(s.rope_cos, tokens * c.head_dim / 2);
  arena.take(s.rope_sin, tokens * c.head_dim / 2);
  arena.take(s.packed, product_rows * s.packed_stride);
  arena.take(s.packed_rows, product_rows);
  arena.take(s.panels, s.panel_bytes);
  arena.take(s.qkv, tokens * (c.q_size() + 2 * c.kv_size()));
  arena.take(s.attn, tokens * c.q_size());
  arena.take(s.lse, tokens * c.num_attention_heads);
  arena.take(s.partial, static_cast<size_t>(s.split_tasks) * s.splits * c.group_size() * (2 + s.padded_dim));
  arena.take(s.tiles, tokens);
  arena.take(s.wanted, s.limits.max_outputs);
  arena.take(s.wanted_tiles, s.limits.max_outputs);
  arena.take(s.wanted_rows, s.limits.max_outputs);
  arena.take(s.router_logits, tokens * c.num_local_experts);
  arena.take(s.router_choice, pairs);
  arena.take(s.router_weight, pairs);
  arena.take(s.expert_first, c.num_local_experts + 1);
  arena.take(s.expert_pairs, pairs);
  arena.take(s.expert_rows, pairs);
  arena.take(s.expert_h, pairs * s.h_stride);
  arena.take(s.expert_y, pairs * c.hidden_size);
  const int longest = std::max({c.hidden_size, c.q_size(), c.intermediate_size});
  for (Scratch& scratch : s.scratch) {
    arena.take(scratch.y, product_rows * kTaskRows);
    arena.take(scratch.dot, dot_scratch_floats(longest));
    arena.take(scratch.q, static_cast<size_t>(s.tile_queries) * c.head_dim +
                              (s.column_attention ? attn_columns_bytes(s.tile_queries, c.head_dim) / sizeof(float) : 0));
    arena.take(scratch.ml, 4 * static_cast<size_t>(s.tile_queries));
    arena.take(scratch.acc, 2 * static_cast<size_t>(s.tile_queries) * s.padded_dim);
    arena.take(scratch.attn, attn_scratch_floats(s.padded_dim));
    arena.take(scratch.visible, 2 * static_cast<size_t>(s.tile_queries));
    arena.take(scratch.sort, c.vocab_size);
  }
}

struct Place {
  void* data;
  size_t capacity;
};

Place place(CpuState& s, Field field) {
  const Config& c = s.config;
  const size_t tokens = s.limits.max_tokens, sequences = s.limits.max_sequences, rows = s.limits.max_outputs;
  const size_t table = sequences * s.limits.table_pages(), pairs = tokens * c.num_experts_per_tok;
  switch (field) {
    case Field::token: return {s.token, tokens * sizeof(int32_t)};
    case Field::position: return {s.position, tokens * sizeof(int32_t)};
    case Field::sequence: return {s.sequence, tokens * sizeof(int32_t)};
    case Field::full_pages: return {s.full_pages, table * sizeof(int32_t)};
    case Field::window_pages: return {s.window_pages, table * sizeof(int32_t)};
    case Field::row: return {s.row, rows * sizeof(int32_t)};
    case Field::sampling: return {s.sampling, sequences * sizeof(SampleParams)};
    case Field::edit: return {s.edits, s.limits.max_edits * sizeof(TokenEdit)};
    case Field::mask: return {s.masks, sequences * s.mask_words * sizeof(uint32_t)};
    case Field::logprob: return {s.logprob, sequences * sizeof(float)};
    case Field::top_token: return {s.top_token, sequences * kMaxLogprobs * sizeof(int32_t)};
    case Field::top_logprob: return {s.top_logprob, sequences * kMaxLogprobs * sizeof(float)};
    case Field::residual: return {s.residual, tokens * c.hidden_size * sizeof(float)};
    case Field::attn: return {s.attn, tokens * c.q_size() * sizeof(float)};
    case Field::lse: return {s.lse, tokens * c.num_attention_heads * sizeof(float)};
    case Field::router_logits: return {s.router_logits, tokens * c.num_local_experts * sizeof(float)};
    case Field::router_choice: return {s.router_choice, pairs * sizeof(int32_t)};
    case Field::router_weight: return {s.router_weight, pairs * sizeof(float)};
    case Field::logits: return {s.logits, rows * c.vocab_size * sizeof(float)};
    case Field::next_token: return {s.next_token, sequences * sizeof(int32_t)};
  }
  throw std::logic_error("unknown field");
}

void check(const Place& place, size_t bytes) {
  if (bytes > place.capacity)
    throw std::logic_error("a field holds " + std::to_string(place.capacity) + " bytes, asked for " + std::to_string(bytes));
}

}  // namespace

CpuBackend::CpuBackend(const BackendOptions& options)
    : options_(options),
      kernels_(choose_isa(options.isa)),
      pool_(options.threads > 0 ? options.threads : usable_cores()) {}

DeviceFacts CpuBackend::facts() const {
  return {.name = "cpu",
          .detail = kernels_.name,
          .threads = pool_.threads(),
          .precision = options_.precision,
          .kv_dtype = options_.kv_dtype,
          .dense = options_.dense,
          .errors = errors_};
}

std::unique_ptr<Layer> CpuBackend::load(const Config& c, const HostLayer& host) {
  auto layer = std::make_unique<CpuLayer>();
  const std::string name = "layer " + std::to_string(host.index) + ", ";
  layer->q = dense(host.q_proj_weight, name + "q_proj", layer->copies);
  layer->k = dense(host.k_proj_weight, name + "k_proj", layer->copies);
  layer->v = dense(host.v_proj_weight, name + "v_proj", layer->copies);
  layer->o = dense(host.o_proj_weight, name + "o_proj", layer->copies);
  layer->router = dense_bf16(kernels_, host.router_weight);
  layer->q_bias = floats(host.q_proj_bias);
  layer->k_bias = floats(host.k_proj_bias);
  layer->v_bias = floats(host.v_proj_bias);
  layer->o_bias = floats(host.o_proj_bias);
  layer->router_bias = floats(host.router_bias);
  layer->input_layernorm = floats(host.input_layernorm);
  layer->post_attention_layernorm = floats(host.post_attention_layernorm);
  layer->sinks = floats(host.sinks);
  layer->gate_up = experts(kernels_, host.gate_up_proj, c.num_local_experts, 2 * c.intermediate_size, c.hidden_size);
  layer->down = experts(kernels_, host.down_proj, c.num_local_experts, c.hidden_size, c.intermediate_size);
  return layer;
}

std::unique_ptr<Ends> CpuBackend::load(const Config&, const HostEnds& host) {
  auto ends = std::make_unique<CpuEnds>();
  ends->embed_tokens = host.embed_tokens.bf16();
  ends->norm = floats(host.norm);
  ends->lm_head = dense(host.lm_head, "lm_head", ends->copies);
  return ends;
}

Weight CpuBackend::dense(const Tensor& matrix, const std::string& name, std::vector<Memory>& copies) {
  if (options_.dense == Dense::bf16) return dense_bf16(kernels_, matrix);
  Int8Copy copy = dense_int8(kernels_, pool_, matrix, name);
  copies.push_back(std::move(copy.memory));
  errors_.push_back(std::move(copy.error));
  return copy.weight;
}

size_t CpuBackend::page_bytes(const Config& c) const {
  const size_t element = options_.kv_dtype == KvDType::f32 ? sizeof(float) : sizeof(uint16_t);
  const size_t layers = std::max(c.layers_of(LayerType::full_attention), c.layers_of(LayerType::sliding_attention));
  const size_t key_dim = column_attention() ? round_up(c.head_dim, kPackGroup) : c.head_dim;
  const size_t padded_dim = round_up(c.head_dim, kMaxLanes);
  return layers * c.num_key_value_heads * kPageTokens * (key_dim + padded_dim) * element;
}

StateBytes CpuBackend::plan(const Config& c, const Limits& limits) const {
  CpuState shape;
  shape.column_attention = column_attention();
  set_shape(shape, c, limits, kernels_, options_.precision, pool_.threads());
  Arena activations(nullptr), logits(nullptr);
  arrange(shape, activations);
  arrange_logits(shape, logits);
  return {.weights = options_.dense == Dense::int8 ? dense_int8_bytes(c) : 0,
          .kv = page_bytes(c) * limits.pages, .activations = activations.used(), .logits = logits.used(),
          .kept = kept_bytes(c, limits)};
}

std::unique_ptr<State> CpuBackend::state(const Config& c, const Limits& limits) {
  const StateBytes bytes = plan(c, limits);
  auto s = std::make_unique<CpuState>();
  s->column_attention = column_attention();
  set_shape(*s, c, limits, kernels_, options_.precision, pool_.threads());
  s->rope = make_rope(c);
  s->products.resize(static_cast<size_t>(c.num_local_experts));
  s->product_expert.resize(static_cast<size_t>(c.num_local_experts));
  s->memory = Memory(bytes.activations + bytes.logits, "activations");
  Arena arena(s->memory.data());
  arrange(*s, arena);
  arrange_logits(*s, arena);
  s->kv = Memory(bytes.kv, "KV cache");
  s->kept_memory = Memory(bytes.kept, "observed values");
  s->kept = s->kept_memory.data();
  s->page_bytes = page_bytes(c);
  const size_t layers = std::max(c.layers_of(LayerType::full_attention), c.layers_of(LayerType::sliding_attention));
  s->page_layer_bytes = s->page_bytes / layers;
  s->page_head_bytes = s->page_layer_bytes / c.num_key_value_heads;
  return s;
}

void CpuBackend::write(State& state, Field field, const void* data, size_t bytes) {
  const Place to = place(static_cast<CpuState&>(state), field);
  check(to, bytes);
  if (bytes) std::memcpy(to.data, data, bytes);
}

void CpuBackend::read(State& state, Field field, void* data, size_t bytes) {
  const Place from = place(static_cast<CpuState&>(state), field);
  check(from, bytes);
  if (bytes) std::memcpy(data, from.data, bytes);
}

void CpuBackend::copy_page(State& state, int from, int to) {
  auto& s = static_cast<CpuState&>(state);
  std::memcpy(s.kv.data() + to * s.page_bytes, s.kv.data() + from * s.page_bytes, s.page_bytes);
}

void CpuBackend::keep(State& state, Field field, int layer, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  if (batch.tokens > s.limits.max_kept)
    throw std::invalid_argument("values of " + std::to_string(s.limits.max_kept) + " tokens can be kept, the step has " +
                                std::to_string(batch.tokens));
  std::memcpy(kept_slot(s, field, layer), place(s, field).data, token_bytes(s.config, field) * batch.tokens);
}

void CpuBackend::read_kept(State& state, Field field, int layer, void* data, size_t bytes) {
  auto& s = static_cast<CpuState&>(state);
  check({nullptr, token_bytes(s.config, field) * s.limits.max_kept}, bytes);
  if (bytes) std::memcpy(data, kept_slot(s, field, layer), bytes);
}

Ticket CpuBackend::submit(State&, const Batch&, const std::function<void()>& enqueue, const InterruptPoll& poll) {
  struct Watch {
    Pool& pool;
    Watch(Pool& p, const InterruptPoll& poll) : pool(p) { pool.watch(poll ? &poll : nullptr); }
    ~Watch() { pool.watch(nullptr); }
  } watch(pool_, poll);
  enqueue();
  return 0;
}

void CpuBackend::norm(CpuState& s, const std::vector<float>& gain, Tokens tokens) {
  const int n = s.config.hidden_size;
  const bool round = options_.precision == Precision::fast;
  parallel(tokens.count, [&](int i, int) {
    const float* x = s.residual + static_cast<size_t>(tokens[i]) * n;
    const float mean = kernels_.sum_squares(x, n) / static_cast<float>(n);
    float* packed = s.packed + i * s.packed_stride;
    kernels_.pack(x, gain.data(), 1.0f / std::sqrt(mean + s.config.rms_norm_eps), n, round, packed);
    s.packed_rows[i] = packed;
  });
}

}  // namespace gptoss::cpu
