#include "gpu_state.h"

#include <algorithm>
#include <stdexcept>

namespace gptoss::simt {
namespace {

// The fields that keep() knows, and the bytes that one token has in each.
constexpr Field kKeepable[] = {Field::residual,      Field::attn,          Field::lse,
                               Field::router_logits, Field::router_choice, Field::router_weight};

}  // namespace

const char* name(Stage stage) {
  constexpr const char* kNames[] = {"embed",  "attn_qkv", "attn",    "attn_out", "moe_route",
                                    "moe_up", "moe_down", "unembed", "sample",   "keep"};
  return kNames[static_cast<int>(stage)];
}

bool same(const std::vector<Call>& a, const std::vector<Call>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Call& x, const Call& y) {
    return x.stage == y.stage && x.weights == y.weights && x.grid.tokens == y.grid.tokens &&
           x.grid.rows == y.grid.rows && x.grid.samples == y.grid.samples && x.field == y.field &&
           x.index == y.index && x.kept == y.kept;
  });
}

int bucket(int count) {
  if (count > kDecodeTokens) return count;
  int size = count > 0 ? 1 : 0;
  while (size < count) size *= 2;
  return size;
}

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

uint8_t* kept_slot(const Buffers& s, Field wanted, int layer) {
  size_t offset = kept_bytes(s.config, s.limits) / s.config.num_hidden_layers * layer;
  for (Field field : kKeepable) {
    if (field == wanted) return s.kept + offset;
    offset += token_bytes(s.config, field) * s.limits.max_kept;
  }
  throw std::invalid_argument("this field cannot be kept");
}

void arrange_sampling(Buffers& s, size_t samples, size_t vocab, Arena& arena) {
  arena.take(s.sample_slices, samples * ((vocab + kSliceTokens - 1) / kSliceTokens));
  arena.take(s.sample_bins, samples * kSampleBins);
  arena.take(s.sample_collected, samples);
  arena.take(s.sample_candidates, samples * vocab);
}

void arrange(Buffers& s, const Config& c, const Limits& limits, const MatrixNeeds& needs, Arena& arena,
             Arena& logits) {
  s.config = c;
  s.limits = limits;
  s.splits = (limits.table_pages() + kSplitPages - 1) / kSplitPages;
  s.mask_words = (static_cast<size_t>(c.vocab_size) + 31) / 32;
  const size_t tokens = limits.max_tokens, sequences = limits.max_sequences, pages = limits.table_pages();
  const size_t rows = limits.max_outputs, pairs = tokens * c.num_experts_per_tok, half = c.head_dim / 2;
  const size_t operand_rows = std::max(tokens, rows), operand_size = std::max(c.hidden_size, c.q_size());
  const size_t split_tokens = std::min<size_t>(tokens, kDecodeTokens);
  arena.take(s.live, 1);
  arena.take(s.token, tokens);
  arena.take(s.position, tokens);
  arena.take(s.sequence, tokens);
  arena.take(s.full_pages, sequences * pages);
  arena.take(s.window_pages, sequences * pages);
  arena.take(s.row, rows);
  arena.take(s.sampling, sequences);
  arena.take(s.edits, limits.max_edits);
  arena.take(s.masks, sequences * s.mask_words);
  arena.take(s.next_token, sequences);  // the results, one behind the other: see result_block()
  arena.take(s.logprob, sequences);
  arena.take(s.top_token, sequences * kMaxLogprobs);
  arena.take(s.top_logprob, sequences * kMaxLogprobs);
  arena.take(s.residual, tokens * c.hidden_size);
  arena.take(s.attn, tokens * c.q_size());
  arena.take(s.lse, tokens * c.num_attention_heads);
  arena.take(s.router_logits, tokens * c.num_local_experts);
  arena.take(s.router_choice, pairs);
  arena.take(s.router_weight, pairs);
  arena.take(s.inv_freq, half);
  arena.take(s.rope_cos, tokens * half);
  arena.take(s.rope_sin, tokens * half);
  arena.take(s.operand, operand_rows * operand_size);
  arena.take(s.operand_terms, operand_rows * operand_size * needs.terms);
  arena.take(s.qkv, tokens * (c.q_size() + 2 * c.kv_size()));
  arena.take(s.partial, s.splits < 2 ? 0 : split_tokens * c.num_attention_heads * s.splits * (2 + c.head_dim));
  arena.take(s.pairs, pairs);
  arena.take(s.tiles, most_tiles(static_cast<int>(pairs), c.num_local_experts));
  arena.take(s.tile_count, 1);
  arena.take(s.expert_h, pairs * c.intermediate_size);
  arena.take(s.expert_h_terms, pairs * c.intermediate_size * needs.terms);
  arena.take(s.expert_y, pairs * c.hidden_size);
  arrange_sampling(s, sequences, c.vocab_size, arena);
  arena.take(s.scratch, needs.scratch_bytes);
  logits.take(s.logits, rows * c.vocab_size);
}

size_t input_bytes(const Buffers& s) {
  const size_t tokens = std::min(s.limits.max_tokens, std::max(kDecodeTokens, s.limits.max_sequences));
  const size_t table = static_cast<size_t>(s.limits.max_sequences) * s.limits.table_pages();
  Arena arena(nullptr);
  uint8_t* piece;
  for (size_t bytes : {sizeof(LiveCounts), tokens * sizeof(int32_t), tokens * sizeof(int32_t), tokens * sizeof(int32_t),
                       table * sizeof(int32_t), table * sizeof(int32_t), tokens * sizeof(int32_t),
                       s.limits.max_sequences * sizeof(SampleParams), size_t{1} << 16})
    arena.take(piece, bytes);
  return arena.used();
}

Place place(const Buffers& s, Field field) {
  const Config& c = s.config;
  const size_t tokens = s.limits.max_tokens, sequences = s.limits.max_sequences, rows = s.limits.max_outputs;
  const size_t table = sequences * s.limits.table_pages(), pairs = tokens * c.num_experts_per_tok;
  const auto of = [](auto* data, size_t count) { return Place{data, count * sizeof(*data)}; };
  switch (field) {
    case Field::token: return of(s.token, tokens);
    case Field::position: return of(s.position, tokens);
    case Field::sequence: return of(s.sequence, tokens);
    case Field::full_pages: return of(s.full_pages, table);
    case Field::window_pages: return of(s.window_pages, table);
    case Field::row: return of(s.row, rows);
    case Field::sampling: return of(s.sampling, sequences);
    case Field::edit: return of(s.edits, s.limits.max_edits);
    case Field::mask: return of(s.masks, sequences * s.mask_words);
    case Field::residual: return of(s.residual, tokens * c.hidden_size);
    case Field::attn: return of(s.attn, tokens * c.q_size());
    case Field::lse: return of(s.lse, tokens * c.num_attention_heads);
    case Field::router_logits: return of(s.router_logits, tokens * c.num_local_experts);
    case Field::router_choice: return of(s.router_choice, pairs);
    case Field::router_weight: return of(s.router_weight, pairs);
    case Field::logits: return of(s.logits, rows * c.vocab_size);
    case Field::next_token: return of(s.next_token, sequences);
    case Field::logprob: return of(s.logprob, sequences);
    case Field::top_token: return of(s.top_token, sequences * kMaxLogprobs);
    case Field::top_logprob: return of(s.top_logprob, sequences * kMaxLogprobs);
  }
  throw std::logic_error("unknown field");
}

}  // namespace gptoss::simt
