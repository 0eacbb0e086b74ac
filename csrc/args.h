// What GPU kernels are told: plain data for C++, CUDA and HIP alike. One struct for each kernel, passed by
// value.
//
// Pointers and sizes of the model and of the state only: they are copied when a graph is captured. What
// differs from step to step (counts, tokens, positions, page tables, sampling) stands in device memory that
// they point to.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "sampling.h"

namespace gptoss {

// How many of each there are in this step, in device memory; a grid may be larger.
struct LiveCounts {
  int32_t tokens, rows, samples;
};

struct EmbedArgs {
  const LiveCounts* live;
  const int32_t *token, *position;
  const uint16_t* embed_tokens;  // bf16 (vocab_size, hidden_size)
  const float* inv_freq;         // (half)
  float* residual;               // (tokens, hidden_size)
  float *rope_cos, *rope_sin;    // (tokens, half)
  double concentration;
  int hidden_size, half;
};

// What a product multiplies, as whoever makes it writes it: float32, or, for matrix cores, bf16 terms that add up to
// it, one row behind the other.
struct Operand {
  float* values;    // (rows, size), for SIMT kernels; rounded to bf16 if `round`. Or null, and
  uint16_t* terms;  // bf16 (rows, count, size): the value, what is missing from it, what is missing then
  int size, count;
  bool round;
};

struct NormArgs {
  const int32_t* count;  // live rows of `out`
  const int32_t* row;    // (rows) which row of `x`; null: the same
  const float* x;        // (tokens, size)
  const float* gain;     // (size)
  Operand out;           // (rows, out.size)
  float eps;
};

struct RoundArgs {
  const int32_t* count;
  const float* x;
  Operand out;  // (rows, out.size) = x
};

// y = x W' + bias, or added to y
struct LinearArgs {
  const int32_t* count;    // live rows of x
  const uint16_t* weight;  // bf16 (rows, k)
  const uint8_t* arranged; // or the same as MatrixKernels have arranged it; then x is in terms
  const float* bias;       // (rows), or null
  Operand x;               // (tokens, k)
  float* y;                // (tokens, rows)
  int rows, k;
  bool add;
};

// One layer's part of the pages of one type: (pages, layers, num_key_value_heads, keys then values).
struct KvArgs {
  uint8_t* layer;        // of page 0
  size_t page_bytes;     // from page to page
  size_t head_bytes;     // from head to head: keys (head_dim, 64), then values (64, head_dim)
  const int32_t* pages;  // (sequences, table_pages)
  int table_pages;
};

struct AppendArgs {
  const LiveCounts* live;
  const int32_t *position, *sequence;
  const float *rope_cos, *rope_sin;  // (tokens, head_dim / 2)
  float* qkv;                        // (tokens, heads + 2 kv_heads, head_dim)
  KvArgs kv;
  int heads, kv_heads, head_dim;
  bool round_q;
};

struct AttentionArgs {
  const LiveCounts* live;
  const int32_t *position, *sequence;
  const float* qkv;    // (tokens, heads + 2 kv_heads, head_dim), rotated
  const float* sinks;  // (heads)
  KvArgs kv;
  float* attn;         // (tokens, heads, head_dim)
  float* lse;          // (tokens, heads)
  uint16_t* terms;     // or null; (tokens, heads, head_dim): bf16(attn), by MatrixKernels
  float* partial;      // (tokens, heads, splits, 2 + head_dim): m, l, acc
  int splits;          // of a whole context
  int heads, kv_heads, head_dim;
  int window;          // keys that a query sees, itself included; 0: all
  float scale;
  bool round_weights;
};

inline constexpr int kTileTokens = 4;  // rows of activations that share one read of a weight in a SIMT kernel

// Rows [first, first + count) of `pairs` go through one expert; count is at most GroupArgs::tile.
struct ExpertTile {
  int32_t expert, first, count;
};

// More tiles than this cannot be: only the last one of an expert is not full.
inline int most_tiles(int pairs, int experts, int tile = kTileTokens) {
  return pairs < pairs / tile + experts ? pairs : pairs / tile + experts;
}

struct RouteArgs {
  const LiveCounts* live;
  const float* logits;  // (tokens, experts)
  int32_t* choice;      // (tokens, chosen)
  float* weight;        // (tokens, chosen)
  int experts, chosen;
};

struct GroupArgs {
  const LiveCounts* live;
  const int32_t* choice;  // (tokens * chosen)
  int32_t* pairs;         // (tokens * chosen): pair = token * chosen + rank, grouped by expert, ascending
  ExpertTile* tiles;
  int32_t* tile_count;
  int experts, chosen;
  int tile;               // pairs of a tile
};

struct RouteFewArgs {
  RouteArgs route;
  GroupArgs group;
};

// Weights of all experts, (experts, rows, k): MXFP4, or bf16 where `dense` is set, or as MatrixKernels have arranged them.
struct ExpertArgs {
  const uint32_t* blocks;  // (experts, rows, k / 8): eight codes a word, the first in the lowest bits
  const uint8_t* scales;   // (experts, rows, k / 32)
  const uint16_t* dense;
  const uint8_t* arranged;
  const float* bias;       // (experts, rows)
  int rows, k;
};

struct MoeArgs {
  const int32_t* tile_count;
  const ExpertTile* tiles;
  const int32_t* pairs;
  ExpertArgs experts;
  Operand x;  // up: (tokens, k); down: (pairs, k)
  Operand h;  // what up writes: (pairs, rows / 2)
  float* y;   // what down writes: (pairs, rows)
  int chosen;
  float limit, alpha;
};

struct CombineArgs {
  const LiveCounts* live;
  const float* y;       // (tokens, chosen, size)
  const float* weight;  // (tokens, chosen)
  float* residual;      // (tokens, size)
  int size, chosen;
};

struct SwigluArgs {
  const float* u;  // (rows, 2 size), gate and up interleaved
  float* out;      // (rows, size)
  int rows, size;
  float limit, alpha;
  bool round;
};

struct DequantizeArgs {
  const uint32_t* blocks;  // (rows, k / 8)
  const uint8_t* scales;   // (rows, k / 32)
  float* out;              // (rows, k)
  int rows, k;
};

// The ceilings of a device. What is computed goes to `sink`, which nobody reads.
struct ReadArgs {
  const float* data;
  size_t count;
  float* sink;
};
struct MultiplyAddArgs {
  int iterations;
  float* sink;
};

inline constexpr int kSliceTokens = 1024;  // of the vocabulary, that one block samples from
inline constexpr int kSampleBins = 4096;
inline constexpr int kSampleTop = 20;  // kMaxLogprobs of backend.h

// What is found of a slice. Keys order tokens by their logit, largest first; see sort_key().
struct SampleSlice {
  unsigned long long given, best, drawn;  // its best token as the model gave it, after edits and mask, and as drawn
  unsigned long long top[kSampleTop];     // the most probable ones as the model gave them
  double sum;                             // of exp(logit - that of `given`)
  int32_t given_bad, bad;                 // some logit is not a number
};
struct SampleArgs {
  const LiveCounts* live;
  float* logits;  // (rows, vocab); edits and mask are applied in place
  const SampleParams* sampling;
  TokenEdit* edits;
  const uint32_t* masks;  // (masks, mask_words)
  const int32_t *position, *row;
  int32_t* next_token;
  float* logprob;
  int32_t* top_token;   // (samples, max_logprobs)
  float* top_logprob;
  SampleSlice* slices;  // (samples, slices)
  unsigned long long* bins;  // (samples, kSampleBins): tokens with top_k, mass without
  int32_t* collected;   // (samples): how many
  int32_t* candidates;  // (samples, vocab)
  int vocab, mask_words, max_logprobs;
};

}  // namespace gptoss
