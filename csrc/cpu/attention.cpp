// attn_qkv, attn, attn_out.
//
// What attention sums, and in which order, is a function of absolute positions only: the 64 keys of a page are
// one partial sum made from nothing, pages are merged in ascending order within their split of 16, splits in
// ascending order after that. So a token's result is the same bit for bit in a decode step, in a prefill of any
// chunking, with or without its splits on several threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../numeric.h"
#include "backend.h"
#include "products.h"

namespace gptoss::cpu {
namespace {

// (first, second) of each pair (j, j + head_dim / 2) is rotated by the token's angle.
void rotate(float* head, const float* cos, const float* sin, int half) {
  for (int j = 0; j < half; ++j) {
    const float first = head[j], second = head[j + half];
    head[j] = first * cos[j] - second * sin[j];
    head[j + half] = second * cos[j] + first * sin[j];
  }
}

// Keys are stored (head_dim, 64), values (64, padded_dim).
template <class T, class Convert>
void append(const CpuState& s, uint8_t* page_head, int slot, const float* key, const float* value, Convert convert) {
  const int dim = s.config.head_dim;
  T* keys = reinterpret_cast<T*>(page_head);
  T* values = keys + dim * kPageTokens + slot * s.padded_dim;
  for (int d = 0; d < dim; ++d) keys[d * kPageTokens + slot] = convert(key[d]);
  for (int d = 0; d < dim; ++d) values[d] = convert(value[d]);
}

// As attn_split reads them, keys are stored (64, key_dim), values (padded_dim, 64).
void append_columns(const CpuState& s, uint8_t* page_head, int slot, const float* key, const float* value) {
  uint16_t* keys = reinterpret_cast<uint16_t*>(page_head);
  uint16_t* values = keys + kPageTokens * s.key_dim + slot;
  for (int d = 0; d < s.config.head_dim; ++d) keys[slot * s.key_dim + d] = float_to_bf16(key[d]);
  for (int d = 0; d < s.config.head_dim; ++d) values[d * kPageTokens] = float_to_bf16(value[d]);
}

struct Softmax {  // running sums of the queries of one tile
  float *m, *l, *acc;

  void clear(int queries, int padded_dim) const {
    std::fill_n(m, queries, -std::numeric_limits<float>::infinity());
    std::fill_n(l, queries, 0.0f);
    std::fill_n(acc, static_cast<size_t>(queries) * padded_dim, 0.0f);
  }
};

// One tile of queries and one key/value head.
struct TileAttention {
  const Kernels& kernels;
  CpuState& s;
  const CpuLayer& layer;
  const Scratch& scratch;
  bool bf16_kv, round;
  QueryTile tile;
  int head;       // key/value head
  int next_head;  // of this thread, more or less

  int group() const { return s.config.group_size(); }
  int queries() const { return tile.count * group(); }
  int qkv_stride() const { return s.config.q_size() + 2 * s.config.kv_size(); }
  Softmax split_sums() const { return {scratch.ml, scratch.ml + s.tile_queries, scratch.acc}; }
  Softmax total_sums() const {
    return {scratch.ml + 2 * s.tile_queries, scratch.ml + 3 * s.tile_queries,
            scratch.acc + static_cast<size_t>(s.tile_queries) * s.padded_dim};
  }

  int first_key(int position) const {
    return layer.type == LayerType::full_attention ? 0 : std::max(0, position - s.config.sliding_window + 1);
  }
  int first_page() const { return first_key(s.position[tile.first]) / kPageTokens; }
  int last_page() const { return s.position[tile.first + tile.count - 1] / kPageTokens; }

  void gather_queries() const {
    const size_t n = static_cast<size_t>(group()) * s.config.head_dim;
    float* q = s.column_attention ? scratch.q + attn_columns_bytes(s.tile_queries, s.config.head_dim) / sizeof(float) : scratch.q;
    for (int i = 0; i < tile.count; ++i)
      std::memcpy(q + i * n, s.qkv + static_cast<size_t>(tile.first + i) * qkv_stride() + head * n, n * sizeof(float));
    if (s.column_attention) kernels.attn_columns(q, queries(), s.config.head_dim, scratch.q);
  }

  // What this thread wants behind the pages [.., last): a later one, or the next head's first.
  const uint8_t* next_page(const int32_t* pages, int last) const {
    if (last <= last_page()) return s.keys(pages[last], layer, head);
    return next_head < s.config.num_key_value_heads ? s.keys(pages[first_page()], layer, next_head) : nullptr;
  }

  void run_split_by_columns(int first, int last, const Softmax& sums) const {
    const int32_t* pages = s.page_table(layer, s.sequence[tile.first]);
    const uint8_t* page[kSplitPages];
    for (int i = first; i < last; ++i) page[i - first] = s.keys(pages[i], layer, head);
    int* visible_first = scratch.visible;
    int* visible_last = scratch.visible + s.tile_queries;
    for (int i = 0; i < tile.count; ++i) {
      const int position = s.position[tile.first + i], start = first * kPageTokens;
      std::fill_n(visible_first + i * group(), group(), first_key(position) - start);
      std::fill_n(visible_last + i * group(), group(), position + 1 - start);
    }
    kernels.attn_split({.q = scratch.q,
                        .queries = queries(),
                        .head_dim = s.config.head_dim,
                        .padded_dim = s.padded_dim,
                        .page = page,
                        .pages = last - first,
                        .next = next_page(pages, last),
                        .scale = 1.0f / std::sqrt(static_cast<float>(s.config.head_dim)),
                        .first = visible_first,
                        .last = visible_last,
                        .m = sums.m,
                        .l = sums.l,
                        .acc = sums.acc,
                        .scratch = scratch.attn});
  }

  // Sums of the pages [first, last) of one split.
  void run_split(int first, int last, const Softmax& sums) const {
    if (s.column_attention) return run_split_by_columns(first, last, sums);
    sums.clear(queries(), s.padded_dim);
    const int32_t* pages = s.page_table(layer, s.sequence[tile.first]);
    int* visible_first = scratch.visible;
    int* visible_last = scratch.visible + s.tile_queries;
    for (int page = first; page < last; ++page) {
      for (int i = 0; i < tile.count; ++i) {
        const int position = s.position[tile.first + i], start = page * kPageTokens;
        const int from = std::clamp(first_key(position) - start, 0, kPageTokens);
        const int to = std::clamp(position + 1 - start, 0, kPageTokens);
        std::fill_n(visible_first + i * group(), group(), from);
        std::fill_n(visible_last + i * group(), group(), to);
      }
      const uint8_t* keys = s.keys(pages[page], layer, head);
      const size_t element = bf16_kv ? sizeof(uint16_t) : sizeof(float);
      kernels.attn_page({.q = scratch.q,
                         .queries = queries(),
                         .head_dim = s.config.head_dim,
                         .padded_dim = s.padded_dim,
                         .keys = keys,
                         .values = keys + s.config.head_dim * kPageTokens * element,
                         .bf16 = bf16_kv,
                         .round_weights = round,
                         .scale = 1.0f / std::sqrt(static_cast<float>(s.config.head_dim)),
                         .first = visible_first,
                         .last = visible_last,
                         .m = sums.m,
                         .l = sums.l,
                         .acc = sums.acc,
                         .scratch = scratch.attn});
    }
  }

  void merge(const Softmax& into, const float* m, const float* l, const float* acc) const {
    for (int i = 0; i < queries(); ++i)
      kernels.attn_merge(into.m + i, into.l + i, into.acc + i * s.padded_dim, m[i], l[i], acc + i * s.padded_dim, s.padded_dim);
  }

  // The sink joins the softmax once, at the end: one more logit without a value.
  void finish(const Softmax& total) const {
    const int heads = s.config.num_attention_heads, dim = s.config.head_dim;
    for (int i = 0; i < queries(); ++i) {
      const int token = tile.first + i / group(), q_head = head * group() + i % group();
      float* acc = total.acc + i * s.padded_dim;
      kernels.attn_finish(total.m + i, total.l + i, acc, layer.sinks[q_head], s.padded_dim);
      s.lse[static_cast<size_t>(token) * heads + q_head] = total.m[i] + std::log(total.l[i]);
      std::memcpy(s.attn + (static_cast<size_t>(token) * heads + q_head) * dim, acc, dim * sizeof(float));
    }
  }

  void run_all() const {
    gather_queries();
    const Softmax split = split_sums(), total = total_sums();
    total.clear(queries(), s.padded_dim);
    for (int page = first_page(), end = last_page() + 1; page < end;) {
      const int split_end = std::min(end, (page / kSplitPages + 1) * kSplitPages);
      run_split(page, split_end, split);
      merge(total, split.m, split.l, split.acc);
      page = split_end;
    }
    finish(total);
  }
};

}  // namespace

void CpuBackend::attn_qkv(State& state, const Layer& base, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  const auto& layer = static_cast<const CpuLayer&>(base);
  const Config& c = s.config;
  norm(s, layer.input_layernorm, {nullptr, batch.tokens});
  const Tokens asking = s.tokens(layer, batch);
  for (int i = 0; asking.list && i < asking.count; ++i) s.wanted_rows[i] = s.packed_rows[asking[i]];

  const int q_size = c.q_size(), kv_size = c.kv_size(), stride = q_size + 2 * kv_size;
  Product qkv[3] = {{&layer.q, asking.list ? s.wanted_rows : s.packed_rows, asking.count},
                    {&layer.k, s.packed_rows, batch.tokens},
                    {&layer.v, s.packed_rows, batch.tokens}};
  const float* const biases[3] = {layer.q_bias.data(), layer.k_bias.data(), layer.v_bias.data()};
  const int columns[3] = {0, q_size, q_size + kv_size};
  products(s, qkv, 3, [&](const Block& b) {
    const float* bias = biases[b.index] + b.row;
    for (int t = 0; t < b.tokens; ++t) {
      const int token = b.index == 0 ? asking[b.token + t] : b.token + t;
      float* out = s.qkv + static_cast<size_t>(token) * stride + columns[b.index] + b.row;
      for (int r = 0; r < b.rows; ++r) out[r] = b.y[t * kTaskRows + r] + bias[r];
    }
  });

  rotate_append(s, layer, batch.tokens);
}

void CpuBackend::rotate_append(CpuState& s, const CpuLayer& layer, int tokens) {
  const Config& c = s.config;
  const int q_size = c.q_size(), kv_size = c.kv_size(), stride = q_size + 2 * kv_size;
  const bool round = options_.precision == Precision::fast;
  parallel(tokens, [&](int t, int) {
    const int half = c.head_dim / 2;
    const float* cos = s.rope_cos + static_cast<size_t>(t) * half;
    const float* sin = s.rope_sin + static_cast<size_t>(t) * half;
    float* q = s.qkv + static_cast<size_t>(t) * stride;
    for (int h = 0; h < c.num_attention_heads + c.num_key_value_heads; ++h) rotate(q + h * c.head_dim, cos, sin, half);
    if (round)
      for (int i = 0; i < q_size; ++i) q[i] = round_to_bf16(q[i]);
    const int page = s.page_table(layer, s.sequence[t])[s.position[t] / kPageTokens];
    const int slot = s.position[t] % kPageTokens;
    for (int h = 0; h < c.num_key_value_heads; ++h) {
      const float* key = q + q_size + h * c.head_dim;
      const float* value = key + kv_size;
      uint8_t* to = s.keys(page, layer, h);
      if (s.column_attention)
        append_columns(s, to, slot, key, value);
      else if (options_.kv_dtype == KvDType::bf16)
        append<uint16_t>(s, to, slot, key, value, float_to_bf16);
      else
        append<float>(s, to, slot, key, value, [](float x) { return x; });
    }
  });
}

void CpuBackend::attn(State& state, const Layer& base, const Batch& batch) {
  (void)batch;
  auto& s = static_cast<CpuState&>(state);
  const auto& layer = static_cast<const CpuLayer&>(base);
  const int heads = s.config.num_key_value_heads;
  const QueryTile* const tiles = s.narrows(layer) ? s.wanted_tiles : s.tiles;
  const int tile_count = s.narrows(layer) ? s.wanted_count : s.tile_count;
  const auto attention = [&](int tile, int head, int worker) {
    return TileAttention{kernels_, s, layer, s.scratch[worker], options_.kv_dtype == KvDType::bf16,
                         options_.precision == Precision::fast, tiles[tile], head, head + pool_.threads()};
  };
  const int pairs = tile_count * heads;

  // Few queries over many keys: the splits of one tile go to several threads.
  int most_splits = 0;
  bool single = true;
  for (int tile = 0; tile < tile_count; ++tile) {
    const TileAttention a = attention(tile, 0, 0);
    most_splits = std::max(most_splits, a.last_page() / kSplitPages - a.first_page() / kSplitPages + 1);
    single = single && tiles[tile].count == 1;
  }
  if (pool_.threads() == 1 || !single || pairs > s.split_tasks || most_splits < 2) {
    parallel(pairs, [&](int task, int worker) { attention(task / heads, task % heads, worker).run_all(); });
    return;
  }

  const int group = s.config.group_size();
  const size_t record = static_cast<size_t>(group) * (2 + s.padded_dim);
  const auto partial = [&](int pair, int split) {
    float* m = s.partial + (static_cast<size_t>(pair) * s.splits + split) * record;
    return Softmax{m, m + group, m + 2 * group};
  };
  parallel(pairs * most_splits, [&](int task, int worker) {
    const int pair = task / most_splits;
    const TileAttention a = attention(pair / heads, pair % heads, worker);
    const int split = a.first_page() / kSplitPages + task % most_splits;
    const int first = std::max(a.first_page(), split * kSplitPages);
    const int last = std::min(a.last_page() + 1, (split + 1) * kSplitPages);
    if (first >= last) return;
    a.gather_queries();
    a.run_split(first, last, partial(pair, split));
  });
  parallel(pairs, [&](int pair, int worker) {
    const TileAttention a = attention(pair / heads, pair % heads, worker);
    const Softmax total = a.total_sums();
    total.clear(a.queries(), s.padded_dim);
    for (int split = a.first_page() / kSplitPages; split <= a.last_page() / kSplitPages; ++split) {
      const Softmax part = partial(pair, split);
      a.merge(total, part.m, part.l, part.acc);
    }
    a.finish(total);
  });
}

void CpuBackend::attn_out(State& state, const Layer& base, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  const auto& layer = static_cast<const CpuLayer&>(base);
  const int n = s.config.q_size(), hidden = s.config.hidden_size;
  const bool round = options_.precision == Precision::fast;
  const Tokens tokens = s.tokens(layer, batch);
  parallel(tokens.count, [&](int t, int) {
    float* packed = s.packed + t * s.packed_stride;
    kernels_.pack(s.attn + static_cast<size_t>(tokens[t]) * n, nullptr, 1.0f, n, round, packed);
    s.packed_rows[t] = packed;
  });
  Product product{&layer.o, s.packed_rows, tokens.count};
  products(s, &product, 1, [&](const Block& b) {
    const float* bias = layer.o_bias.data() + b.row;
    for (int t = 0; t < b.tokens; ++t) {
      float* x = s.residual + static_cast<size_t>(tokens[b.token + t]) * hidden + b.row;
      for (int r = 0; r < b.rows; ++r) x[r] += b.y[t * kTaskRows + r] + bias[r];
    }
  });
  if (pool_.stopped()) throw Interrupted();
}

}  // namespace gptoss::cpu
