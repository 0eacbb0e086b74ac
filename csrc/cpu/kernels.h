// The inner loops of the CPU, as one table of plain functions per instruction set.
//
// Two layouts are shared by all of them:
//  - *packed activations*: K floats in groups of 32, the 16 at even places first, then the 16 at odd places,
//    zero-padded to a whole group. So that weights are used as they lie in the file: the two bf16 of a 32-bit
//    word, and the two nibbles of a byte, each meet a plain load. Where products multiply bf16, a group is its
//    terms instead; see packs_terms().
//  - a *KV page* of one head: keys (head_dim, 64), so that 64 scores are computed without a horizontal sum;
//    values (64, padded head_dim).
//
// Order of sums: an element of a product is the sum over k in kLanes interleaved chains, then one fixed tree;
// it depends on nothing but its row and its activations, whatever is computed beside it.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gptoss::cpu {

// static, not inline: an ISA file must not define anything that the linker could keep for all.
constexpr int kPackGroup = 32;
constexpr int kMaxLanes = 16;
static_assert(kPackGroup == 2 * kMaxLanes, "a group is one pair of the widest registers");

static constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// y[t * y_stride + r] = sum over k of w(r, k) * x[t](k)
struct DotArgs {
  const void* weight;     // row 0: bf16, MXFP4 blocks, or 8-bit groups as quantize.h has them
  const uint8_t* scales;  // MXFP4 and 8 bits: row 0
  size_t row_bytes;       // from row to row of `weight`
  size_t scale_bytes;     // from row to row of `scales`
  int rows;
  int k;
  const float* const* x;  // (tokens) packed
  const void* panel;      // the same, as Kernels::panel arranged it for many tokens, or Kernels::integers for any
  bool exact;             // where x is bf16 terms: three, else one
  int tokens;
  float* y;
  size_t y_stride;
  float* scratch;         // dot_scratch_floats(k)
  const void* next;       // the weights this thread will want after these, as many rows, to be fetched ahead; may be null
  const uint8_t* next_scales;  // theirs; may be null
};
// Tile products: a tile is 16 rows of 64 bytes, 32 bf16 of a weight row or 16 columns of pairs of activations.
constexpr int kTileBytes = 1024;
constexpr int kTileColumns = 16;    // tokens of one tile
constexpr int kPanelTokens = 128;   // tokens of one product, half of them where exact: their panel stays in L2

// Other products: rows of a panel of weights, floats between its lanes, and how often its sums are folded.
constexpr int kMostPanelRows = 32, kPanelPad = 16, kPanelLevels = 4;
static constexpr size_t dot_scratch_floats(int k) {
  const size_t panel = kMostPanelRows * round_up(k, kPackGroup) + kMaxLanes * kPanelPad;
  return kPanelLevels * kMostPanelRows * kPanelTokens + panel;  // more than tile products need
}
static_assert(dot_scratch_floats(0) >= 20 * kTileBytes / sizeof(float), "tiles of C on their way out, and a few of A");

// One KV head, one page, `queries` rows that share it. Partial sums of this page are computed from nothing and
// then merged into the running m, l, acc.
struct AttnPageArgs {
  const float* q;        // (queries, head_dim)
  int queries;
  int head_dim;
  int padded_dim;        // round_up(head_dim, 16): row length of values and acc
  const void* keys;      // (head_dim, 64)
  const void* values;    // (64, padded_dim)
  bool bf16;             // dtype of keys and values; else f32
  bool round_weights;    // softmax weights are rounded to bf16 before they meet the values
  float scale;
  const int* first;      // (queries) visible slots [first, last) of this page; empty: the page is not merged.
  const int* last;       // Every slot between the lowest first and the highest last holds a finite value.
  float* m;              // (queries) running maximum
  float* l;              // (queries) running sum of exp(score - m)
  float* acc;            // (queries, padded_dim) running sum of exp(score - m) * value
  float* scratch;        // attn_scratch_floats(padded_dim)
};
constexpr int kAttnTile = 6;  // queries that are computed together
static constexpr size_t attn_scratch_floats(int padded_dim) {
  const size_t page = kAttnTile * (64 + static_cast<size_t>(padded_dim));
  const size_t columns = 6 * kTileBytes / sizeof(float) + (16 + 16 + 32) * static_cast<size_t>(padded_dim) +
                         round_up(padded_dim, kPackGroup) / kPackGroup * kTileBytes / 2 / sizeof(float);
  return page > columns ? page : columns;
}

// Attention by products of bf16, of keys and values in it: one KV head and the pages of one split, from nothing. A page holds
// keys (64, head_dim in whole 32s), the padding 0, and values (padded_dim, 64).
struct AttnSplitArgs {
  const void* q;               // Kernels::attn_columns of the queries
  int queries;
  int head_dim;
  int padded_dim;
  const uint8_t* const* page;  // (pages)
  int pages;
  const uint8_t* next;         // the page that this thread wants after these, to be fetched ahead; may be null
  float scale;
  const int* first;            // (queries) visible slots [first, last), counted from the first page's on
  const int* last;
  float* m;                    // (queries), (queries), (queries, padded_dim): as in AttnPageArgs, written
  float* l;
  float* acc;
  float* scratch;              // attn_scratch_floats(padded_dim)
};
static constexpr size_t attn_columns_bytes(int queries, int head_dim) {
  return round_up(queries, kTileColumns) / kTileColumns * (round_up(head_dim, kPackGroup) / kPackGroup) * kTileBytes;
}

struct Kernels {
  const char* name;
  int lanes;
  void (*dot_bf16)(const DotArgs&);   // weight rows of k
  void (*dot_mxfp4)(const DotArgs&);  // k a multiple of 32
  void (*dot_int8)(const DotArgs&);   // rows of whole groups, whatever k
  // Weights stored (k, rows), row_bytes from k to k, rows a multiple of 32: one ascending chain over k.
  void (*dot_bf16_transposed)(const DotArgs&);

  void (*attn_page)(const AttnPageArgs&);
  // Merges the sums of a later split into those of an earlier one; `n` floats of acc.
  void (*attn_merge)(float* m, float* l, float* acc, float m2, float l2, const float* acc2, int n);
  // Adds the sink to m and l, and makes acc the attention output.
  void (*attn_finish)(float* m, float* l, float* acc, float sink, int n);

  float (*sum_squares)(const float* x, int n);
  // Floats of a packed group of 32, rounded to bf16 or not.
  int group_floats_rounded, group_floats;
  // packed = x * scale * gain (no gain: null), rounded to bf16 if asked.
  void (*pack)(const float* x, const float* gain, float scale, int n, bool round, float* packed);
  // u (2n): gate and up interleaved; bias bf16 (2n) -> packed swiglu (n); n a multiple of 32.
  void (*swiglu_pack)(const float* u, const uint16_t* bias, int n, float limit, float alpha, bool round,
                      float* packed);

  // The machine's own ceilings, for benches: a plain read, and fused multiply-adds on registers.
  float (*read_sum)(const void* data, size_t bytes);
  float (*multiply_add)(long iterations, long* flops);

  // Products of that many tokens and more read their activations from panels: up to 16 packed rows side by side, as the
  // columns of tiles.
  int panel_from;
  int most_tokens;  // of one product; half of them where activations are not rounded
  void (*panel)(const float* const* x, int tokens, int k, bool exact, void* to);
  // Where products of weights with scales are of integers unless exact, else null: these read their activations, of any
  // number of tokens, as integers; for MXFP4, or else for 8 bits. `of`: tokens of the whole product. A token takes as many
  // bytes as it does in a panel.
  void (*integers)(const float* const* x, int tokens, int of, int k, bool mxfp4, void* to);
  float (*matrix_multiply_add)(long iterations, long* flops);  // where products are of bf16 or integers, else null
  void (*attn_columns)(const float* q, int queries, int head_dim, void* to);  // else null, as attn_split
  void (*attn_split)(const AttnSplitArgs&);

  int floats(int k, bool rounded) const {  // of k packed activations
    return static_cast<int>(round_up(k, kPackGroup)) / kPackGroup * (rounded ? group_floats_rounded : group_floats);
  }
  size_t panel_bytes(int tokens, int k, bool rounded) const {
    return round_up(static_cast<size_t>(tokens), kTileColumns) * floats(k, rounded) * sizeof(float);
  }
  // Whether packed activations are bf16 terms in their order, one where rounded and else three, the smallest first.
  // Products of bf16 take what is below 2^-126 for 0: terms, and weights (not the transposed of neon_bf16).
  bool packs_terms(bool rounded) const { return floats(kPackGroup, rounded) != kPackGroup; }
};

// The table of an ISA file, and of one with integers.inl.
#define GPTOSS_KERNELS(isa) GPTOSS_KERNELS_OF(isa, isa::dot_mxfp4, isa::dot_int8, nullptr, nullptr)
#define GPTOSS_INTEGER_KERNELS(isa)                                                                              \
  GPTOSS_KERNELS_OF(isa, isa::integer_dot_mxfp4, isa::integer_dot_int8, isa::integers, isa::integer_multiply_add)
#define GPTOSS_KERNELS_OF(isa, of_mxfp4, of_int8, to_integers, matrix_rate)                                      \
  {#isa,           isa::kLanes,      isa::dot_bf16,    of_mxfp4,          of_int8,         isa::dot_bf16_transposed, \
   isa::attn_page, isa::attn_merge,  isa::attn_finish, isa::sum_squares,  kPackGroup,      kPackGroup,           \
   isa::pack,      isa::swiglu_pack, isa::read_sum,    isa::multiply_add, isa::kPanelFrom, 1 << 30,              \
   isa::columns,   to_integers,      matrix_rate,      nullptr,           nullptr}

// The tables of the ISA files; null where not compiled for this architecture.
extern const Kernels* const kBaseline;
extern const Kernels* const kAvx2;
extern const Kernels* const kAvx2Vnni;
extern const Kernels* const kAvx512;
extern const Kernels* const kAvx512Vnni;
extern const Kernels* const kAvx512Bf16;
extern const Kernels* const kAmx;
extern const Kernels* const kNeon;
extern const Kernels* const kNeonBf16;

}  // namespace gptoss::cpu
