// What GPU kernels are told, and how they cut their work: plain data for C++, CUDA, HIP and Metal alike. One struct for
// each kernel, passed by value; in Metal its pointers are buffers' GPU addresses.
//
// Pointers and sizes of the model and of the state only: they are copied when a graph is captured. What
// differs from step to step (counts, tokens, positions, page tables, sampling) stands in device memory that
// they point to.
#pragma once

#include "sampling.h"
#if defined(__METAL_VERSION__)
#include "pair.h"
#endif

namespace gptoss {

// --- How kernels cut their work

GPTOSS_CONSTANT int kBlockWarps = 4;     // of the kernels whose warps have nothing to do with one another
GPTOSS_CONSTANT int kPageSlots = 64;     // kPageTokens of backend.h, which kernels do not include
GPTOSS_CONSTANT int kPagesPerSplit = 16; // kSplitPages of backend.h
GPTOSS_CONSTANT int kMaxHeadDim = 128;
GPTOSS_CONSTANT int kScoreBlock = 16;    // dimensions summed as one chain: a score of 20 loses less to rounding
GPTOSS_CONSTANT int kMaxWarps = 1024 / 32;  // of a block
GPTOSS_CONSTANT int kRowThreads = 256;   // at most, of a block that takes one row or a part of it
GPTOSS_CONSTANT int kFewTokens = 8;      // that are routed in one launch
GPTOSS_CONSTANT int kCeilingThreads = 256;
GPTOSS_CONSTANT int kChains = 16;        // multiply-adds in flight in a thread

// --- What they are told

// How many of each there are in this step, in device memory; a grid may be larger.
struct LiveCounts {
  int32_t tokens, rows, samples;
};

struct EmbedArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY const int32_t *token, *position;
  GPTOSS_MEMORY const int32_t* drawn;          // by the step before: what token -1 - i stands for, see backend.h
  GPTOSS_MEMORY const uint16_t* embed_tokens;  // bf16 (vocab_size, hidden_size)
  GPTOSS_MEMORY const float* inv_freq;         // (half_dim)
  GPTOSS_MEMORY float* residual;               // (tokens, hidden_size)
  GPTOSS_MEMORY float *rope_cos, *rope_sin;    // (tokens, half_dim)
  float concentration;
  int hidden_size, half_dim;
};

// The token of a row. What is no token where a draw failed is the first one's: nobody looks at what comes of it.
GPTOSS_HD inline int embedded_token(int32_t token, GPTOSS_MEMORY const int32_t* drawn) {
  if (token < 0) token = drawn[-1 - token];
  return token < 0 ? 0 : token;
}

// What a product multiplies, as whoever makes it writes it: float32, or, for matrix cores, bf16 terms that add up to
// it, one row behind the other.
struct Operand {
  GPTOSS_MEMORY float* values;    // (rows, size), for SIMT kernels; rounded to bf16 if `round`. Or null, and
  GPTOSS_MEMORY uint16_t* terms;  // bf16 (rows, count, size): the value, what is missing from it, what is missing then
  int size, count;
  bool round;
  bool stepped = false;  // terms lie in the order of stepped_place(), which wgmma wants
};

struct NormArgs {
  GPTOSS_MEMORY const int32_t* count;  // live rows of `out`
  GPTOSS_MEMORY const int32_t* row;    // (rows) which row of `x`; null: the same
  GPTOSS_MEMORY const float* x;        // (tokens, size)
  GPTOSS_MEMORY const float* gain;     // (size)
  Operand out;           // (rows, out.size)
  float eps;
};

struct RoundArgs {
  GPTOSS_MEMORY const int32_t* count;
  GPTOSS_MEMORY const float* x;
  Operand out;  // (rows, out.size) = x
};

// y = x W' + bias, or added to y
struct LinearArgs {
  GPTOSS_MEMORY const int32_t* count;    // live rows of x
  GPTOSS_MEMORY const uint16_t* weight;  // bf16 (rows, k)
  GPTOSS_MEMORY const uint8_t* arranged; // or the same as MatrixKernels have arranged it; then x is in terms
  GPTOSS_MEMORY const float* bias;       // (rows), or null
  Operand x;               // (tokens, k)
  GPTOSS_MEMORY float* y;                // (tokens, rows)
  int rows, k;
  bool add;
};

// One layer's part of the pages of one type: (pages, layers, num_key_value_heads, keys then values).
struct KvArgs {
  GPTOSS_MEMORY uint8_t* layer;        // of page 0
  size_t page_bytes;     // from page to page
  size_t head_bytes;     // from head to head: keys (head_dim, 64), then values (64, head_dim)
  GPTOSS_MEMORY const int32_t* pages;  // (sequences, table_pages)
  int table_pages;
  int pool_pages = 0;    // that there are, whosever: for who describes them all to the hardware
};

struct AppendArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY const int32_t *position, *sequence;
  GPTOSS_MEMORY const float *rope_cos, *rope_sin;  // (tokens, head_dim / 2)
  GPTOSS_MEMORY float* qkv;                        // (tokens, heads + 2 kv_heads, head_dim)
  KvArgs kv;
  int heads, kv_heads, head_dim;
  bool round_q;
};

struct AttentionArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY const int32_t *position, *sequence;
  GPTOSS_MEMORY const float* qkv;    // (tokens, heads + 2 kv_heads, head_dim), rotated
  GPTOSS_MEMORY const float* sinks;  // (heads)
  KvArgs kv;
  GPTOSS_MEMORY float* attn;         // (tokens, heads, head_dim)
  GPTOSS_MEMORY float* lse;          // (tokens, heads)
  GPTOSS_MEMORY uint16_t* terms;     // or null; (tokens, heads, head_dim): bf16(attn), by MatrixKernels
  GPTOSS_MEMORY float* partial;      // (tokens, heads, splits, 2 + head_dim): m, l, acc
  int splits;          // of a whole context
  int heads, kv_heads, head_dim;
  int window;          // keys that a query sees, itself included; 0: all
  float scale;
  bool round_weights;
  bool stepped = false;  // `terms` are, as in Operand
};

GPTOSS_CONSTANT int kTileTokens = 4;  // rows of activations that share one read of a weight in a SIMT kernel

// Rows [first, first + count) of `pairs` go through one expert; count is at most GroupArgs::tile.
struct ExpertTile {
  int32_t expert, first, count;
};

// More tiles than this cannot be: only the last one of an expert is not full.
inline int most_tiles(int pairs, int experts, int tile = kTileTokens) {
  return pairs < pairs / tile + experts ? pairs : pairs / tile + experts;
}

struct RouteArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY const float* logits;  // (tokens, experts)
  GPTOSS_MEMORY int32_t* choice;      // (tokens, chosen)
  GPTOSS_MEMORY float* weight;        // (tokens, chosen)
  int experts, chosen;
};

// Pairs are counted in parts, as many as there are threads for.
GPTOSS_HD inline int group_parts(int experts, int threads) { return threads > experts ? threads / experts : 1; }

struct GroupArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY const int32_t* choice;  // (tokens * chosen)
  GPTOSS_MEMORY int32_t* pairs;         // (tokens * chosen): pair = token * chosen + rank, grouped by expert, ascending
  GPTOSS_MEMORY ExpertTile* tiles;
  GPTOSS_MEMORY int32_t* tile_count;
  int experts, chosen;
  int tile;               // pairs of a tile
};

struct RouteFewArgs {
  RouteArgs route;
  GroupArgs group;
};

// Weights of all experts, (experts, rows, k): MXFP4, or bf16 where `dense` is set, or as MatrixKernels have arranged them.
struct ExpertArgs {
  GPTOSS_MEMORY const uint32_t* blocks;  // (experts, rows, k / 8): eight codes a word, the first in the lowest bits
  GPTOSS_MEMORY const uint8_t* scales;   // (experts, rows, k / 32)
  GPTOSS_MEMORY const uint16_t* dense;
  GPTOSS_MEMORY const uint8_t* arranged;
  GPTOSS_MEMORY const float* bias;       // (experts, rows)
  int rows, k;
};

struct MoeArgs {
  GPTOSS_MEMORY const int32_t* tile_count;
  GPTOSS_MEMORY const ExpertTile* tiles;
  GPTOSS_MEMORY const int32_t* pairs;
  ExpertArgs experts;
  Operand x;  // up: (tokens, k); down: (pairs, k)
  Operand h;  // what up writes: (pairs, rows / 2)
  GPTOSS_MEMORY float* y;   // what down writes: (pairs, rows)
  int chosen;
  float limit, alpha;
};

struct CombineArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY const float* y;       // (tokens, chosen, size)
  GPTOSS_MEMORY const float* weight;  // (tokens, chosen)
  GPTOSS_MEMORY float* residual;      // (tokens, size)
  int size, chosen;
};

struct SwigluArgs {
  GPTOSS_MEMORY const float* u;  // (rows, 2 size), gate and up interleaved
  GPTOSS_MEMORY float* out;      // (rows, size)
  int rows, size;
  float limit, alpha;
  bool round;
};

struct DequantizeArgs {
  GPTOSS_MEMORY const uint32_t* blocks;  // (rows, k / 8)
  GPTOSS_MEMORY const uint8_t* scales;   // (rows, k / 32)
  GPTOSS_MEMORY float* out;              // (rows, k)
  int rows, k;
};

// The ceilings of a device. What is computed goes to `sink`, which nobody reads.
struct ReadArgs {
  GPTOSS_MEMORY const float* data;
  size_t count;
  GPTOSS_MEMORY float* sink;
};
struct MultiplyAddArgs {
  int iterations;
  GPTOSS_MEMORY float* sink;
};

GPTOSS_CONSTANT int kSliceTokens = 1024;  // of the vocabulary, that one block samples from
GPTOSS_CONSTANT int kSampleBins = 4096;
GPTOSS_CONSTANT int kSampleTop = 20;  // kMaxLogprobs of backend.h
GPTOSS_CONSTANT int kRadixBins = 256;
GPTOSS_CONSTANT int kKeyBinShift = 52;  // of kSampleBins
GPTOSS_CONSTANT int kSampleThreads = 256;
GPTOSS_CONSTANT int kFinishThreads = 512;

// What is found of a slice. Keys order tokens by their logit, largest first; see sort_key().
struct SampleSlice {
  GPTOSS_U64 given, best, drawn;  // its best token as the model gave it, after edits and mask, and as drawn
  GPTOSS_U64 top[kSampleTop];     // the most probable ones as the model gave them
#if defined(__METAL_VERSION__)    // which has no float64
  Pair sum;
#else
  double sum;  // of exp(logit - that of `given`)
#endif
  int32_t given_bad, bad;  // some logit is not a number
};
struct SampleArgs {
  GPTOSS_MEMORY const LiveCounts* live;
  GPTOSS_MEMORY float* logits;  // (rows, vocab); edits and mask are applied in place
  GPTOSS_MEMORY const SampleParams* sampling;
  GPTOSS_MEMORY TokenEdit* edits;
  GPTOSS_MEMORY const uint32_t* masks;  // (masks, mask_words)
  GPTOSS_MEMORY const int32_t *position, *row;
  GPTOSS_MEMORY int32_t* next_token;
  GPTOSS_MEMORY float* logprob;
  GPTOSS_MEMORY int32_t* top_token;   // (samples, max_logprobs)
  GPTOSS_MEMORY float* top_logprob;
  GPTOSS_MEMORY SampleSlice* slices;  // (samples, slices)
  GPTOSS_MEMORY GPTOSS_U64* bins;  // (samples, kSampleBins): tokens with top_k, mass without
  GPTOSS_MEMORY int32_t* collected;   // (samples): how many
  GPTOSS_MEMORY int32_t* candidates;  // (samples, vocab)
  int vocab, mask_words, max_logprobs;
};

}  // namespace gptoss
