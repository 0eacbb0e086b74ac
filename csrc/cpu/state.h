// What the CPU device holds: weights as views of the file mapping or in 8 bits, activations and the KV pool.
#pragma once

#include <vector>

#include "../backend.h"
#include "kernels.h"
#include "memory.h"

namespace gptoss::cpu {

// A matrix (rows, k) in one of the formats that the kernels read.
struct Weight {
  const void* data = nullptr;
  const uint8_t* scales = nullptr;
  size_t row_bytes = 0;    // for the transposed format: from k to k
  size_t scale_bytes = 0;
  int rows = 0;
  int k = 0;
  bool transposed = false;
  void (*dot)(const DotArgs&) = nullptr;
};

struct Experts {
  std::vector<Weight> weight;          // (num_local_experts)
  std::vector<const uint16_t*> bias;   // bf16
};

struct CpuLayer : Layer {
  std::vector<Memory> copies;  // of weights that are not used as they lie in the checkpoint
  Weight q, k, v, o, router;
  std::vector<float> q_bias, k_bias, v_bias, o_bias, router_bias;
  std::vector<float> input_layernorm, post_attention_layernorm, sinks;
  Experts gate_up, down;
};

struct CpuEnds : Ends {
  std::vector<Memory> copies;
  const uint16_t* embed_tokens = nullptr;
  std::vector<float> norm;
  Weight lm_head;
};

// y = weight x for `tokens` packed activations.
struct Product {
  const Weight* weight = nullptr;
  const float* const* x = nullptr;
  int tokens = 0;
  const uint8_t* panel = nullptr;  // the same as tiles, where products are on tiles and of several tokens
};

// Consecutive tokens of one sequence whose queries share the keys they read.
struct QueryTile {
  int first = 0;
  int count = 0;
};

// One thread's own memory.
struct Scratch {
  float* y = nullptr;         // (max tokens of a product, kTaskRows)
  float* dot = nullptr;       // dot_scratch_floats of the longest k
  float* q = nullptr;         // (tile queries, head_dim), or those as columns and behind them as floats
  float* ml = nullptr;        // (4, tile queries): m and l of the split and of the whole
  float* acc = nullptr;       // (2, tile queries, padded_dim)
  float* attn = nullptr;      // attn_scratch_floats
  int* visible = nullptr;     // (2, tile queries)
  uint64_t* sort = nullptr;   // (vocab_size)
};

// The tokens of a stage: the first `count`, or those of a list.
struct Tokens {
  const int32_t* list = nullptr;
  int count = 0;
  int operator[](int i) const { return list ? list[i] : i; }
};

struct CpuState : State {
  Config config;
  Limits limits;
  Rope rope;
  int padded_dim = 0;
  int key_dim = 0;              // row length of keys, where queries are columns
  bool column_attention = false;
  int tile_tokens = 0;
  int tile_queries = 0;
  int split_tasks = 0;  // (tile, key/value head) pairs that may be cut into splits
  int splits = 0;       // of a whole context

  // Inputs; see Field.
  int32_t *token = nullptr, *position = nullptr, *sequence = nullptr;
  int32_t *full_pages = nullptr, *window_pages = nullptr, *row = nullptr;
  SampleParams* sampling = nullptr;
  TokenEdit* edits = nullptr;
  uint32_t* masks = nullptr;       // (sequences, mask_words)
  size_t mask_words = 0;

  float* residual = nullptr;       // (tokens, hidden_size)
  float *rope_cos = nullptr, *rope_sin = nullptr;  // (tokens, head_dim / 2)
  float* packed = nullptr;         // (tokens, packed_stride): what the next product multiplies
  const float** packed_rows = nullptr;  // (tokens)
  size_t packed_stride = 0;
  uint8_t* panels = nullptr;       // (panel_bytes) of the products of a stage, where products are on tiles
  size_t panel_bytes = 0;
  float* qkv = nullptr;            // (tokens, q_size + 2 kv_size)
  float* attn = nullptr;           // (tokens, q_size)
  float* lse = nullptr;            // (tokens, num_attention_heads)
  float* partial = nullptr;        // (split_tasks, splits, group_size, 2 + padded_dim)
  QueryTile* tiles = nullptr;
  int tile_count = 0;
  // Where the last layer works only on the tokens of rows: those, each once and ascending, as tiles of one, and their
  // activations.
  bool narrow = false;
  int wanted_count = 0;
  int32_t* wanted = nullptr;            // (max_outputs)
  QueryTile* wanted_tiles = nullptr;
  const float** wanted_rows = nullptr;
  float* router_logits = nullptr;  // (tokens, num_local_experts)
  int32_t* router_choice = nullptr;
  float* router_weight = nullptr;  // (tokens, num_experts_per_tok)
  // Pairs (token, rank) grouped by expert: pair = token * num_experts_per_tok + rank.
  int32_t* expert_first = nullptr;    // (num_local_experts + 1)
  int32_t* expert_pairs = nullptr;    // (tokens * num_experts_per_tok)
  const float** expert_rows = nullptr;  // (tokens * num_experts_per_tok): the activations of each pair
  float* expert_h = nullptr;          // (pairs, h_stride) packed
  size_t h_stride = 0;
  float* expert_y = nullptr;          // (pairs, hidden_size)
  std::vector<Product> products;  // (num_local_experts), of the chosen experts of a layer
  std::vector<int> product_expert;
  float* logits = nullptr;            // (rows, vocab_size)
  int32_t* next_token = nullptr;
  float* logprob = nullptr;           // (sequences)
  int32_t* top_token = nullptr;       // (sequences, kMaxLogprobs)
  float* top_logprob = nullptr;
  uint8_t* kept = nullptr;            // (layers, fields that can be kept, max_kept tokens); see keep()
  std::vector<Scratch> scratch;       // per thread

  Memory memory;
  Memory kv;
  Memory kept_memory;
  size_t page_bytes = 0;
  size_t page_layer_bytes = 0;  // one layer's part of a page
  size_t page_head_bytes = 0;   // one key/value head's part of that: keys, then values

  uint8_t* keys(int page, const Layer& layer, int head) const {
    return kv.data() + page * page_bytes + layer.cache_index * page_layer_bytes + head * page_head_bytes;
  }
  bool narrows(const Layer& layer) const { return narrow && layer.index == config.num_hidden_layers - 1; }
  Tokens tokens(const Layer& layer, const Batch& batch) const {
    return narrows(layer) ? Tokens{wanted, wanted_count} : Tokens{nullptr, batch.tokens};
  }
  const int32_t* page_table(const Layer& layer, int seq) const {
    return (layer.type == LayerType::full_attention ? full_pages : window_pages) +
           static_cast<size_t>(seq) * limits.table_pages();
  }
};

}  // namespace gptoss::cpu
