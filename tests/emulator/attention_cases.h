// Attention against float64: sequences with what the cache holds of them, and a step that may have tokens of
// several.
#pragma once

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <vector>

#include "args.h"
#include "gpu_vector.h"
#include "harness.h"

namespace attention {

using namespace gptoss;

constexpr int kDim = 64, kPageTokens = 64;

// Sequences of which each has `history` positions in the cache, and tokens that are the last of them.
struct Case {
  int heads, kv_heads, window, table_pages;
  std::vector<int32_t> position, sequence, pages;
  std::vector<float> q, sinks;       // (tokens, heads, dim)
  std::vector<float> keys, values;   // (sequences, positions, kv_heads, dim): bf16 numbers
  std::vector<uint16_t> cache;       // (pages, kv_heads, keys (dim, 64), values (64, dim)); NaN where nothing was written
  std::vector<double> attn, lse;
  int tokens() const { return static_cast<int>(position.size()); }

  // `ends`: positions of each sequence; `counts`: how many tokens of it are in the step.
  Case(int heads, int kv_heads, int window, const std::vector<int>& ends, const std::vector<int>& counts)
      : heads(heads), kv_heads(kv_heads), window(window), sinks(harness::normal_numbers(heads, 9)) {
    const int longest = *std::max_element(ends.begin(), ends.end()), sequences = static_cast<int>(ends.size());
    table_pages = (longest + kPageTokens - 1) / kPageTokens;
    for (int s = 0; s < sequences; ++s)
      for (int i = 0; i < counts[s]; ++i) position.push_back(ends[s] - counts[s] + i), sequence.push_back(s);
    for (int i = 0; i < sequences * table_pages; ++i) pages.push_back(sequences * table_pages + 3 - i);
    q = rounded(size_t(tokens()) * heads * kDim, 10, 1.5f);
    const size_t row = size_t(kv_heads) * kDim;
    keys = rounded(size_t(sequences) * longest * row, 11, 1.0f), values = rounded(keys.size(), 12, 1.0f);
    cache.assign(size_t(sequences * table_pages + 4) * kv_heads * 2 * kDim * kPageTokens, 0x7fff);
    for (int s = 0; s < sequences; ++s)
      for (int p = 0; p < ends[s]; ++p)
        for (int h = 0; h < kv_heads; ++h)
          for (int d = 0; d < kDim; ++d) {
            const size_t from = (size_t(s) * longest + p) * row + size_t(h) * kDim + d;
            uint16_t* page = &cache[(size_t(pages[s * table_pages + p / kPageTokens]) * kv_heads + h) * 2 * kDim * kPageTokens];
            page[d * kPageTokens + p % kPageTokens] = simt::float_to_bf16(keys[from]);
            page[kDim * kPageTokens + p % kPageTokens * kDim + d] = simt::float_to_bf16(values[from]);
          }
    release_unseen();
    solve(longest, row);
  }
  // Pages that no token sees may be somebody else's by now: here one that was never written.
  void release_unseen() {
    for (int s = 0; window > 0 && s <= sequence.back(); ++s) {
      int first = INT_MAX;
      for (int t = 0; t < tokens(); ++t)
        if (sequence[t] == s) first = std::min(first, std::max(0, position[t] - window + 1));
      std::fill_n(pages.begin() + s * table_pages, first / kPageTokens, 0);
    }
  }
  static std::vector<float> rounded(size_t count, uint64_t seed, float scale) {
    std::vector<float> x = harness::normal_numbers(count, seed);
    for (float& v : x) v = simt::bf16_to_float(simt::float_to_bf16(v * scale));
    return x;
  }
  void solve(int longest, size_t row) {
    attn.assign(size_t(tokens()) * heads * kDim, 0.0), lse.assign(size_t(tokens()) * heads, 0.0);
    for (int t = 0; t < tokens(); ++t)
      for (int h = 0; h < heads; ++h) {
        const int from = window > 0 ? std::max(0, position[t] - window + 1) : 0;
        const size_t base = size_t(sequence[t]) * longest * row + size_t(h / (heads / kv_heads)) * kDim;
        double largest = sinks[h], total = 0;
        std::vector<double> scores;
        for (int p = from; p <= position[t]; ++p) {
          double score = 0;
          for (int d = 0; d < kDim; ++d) score += double{q[(size_t(t) * heads + h) * kDim + d]} * keys[base + p * row + d];
          scores.push_back(score / 8), largest = std::max(largest, scores.back());
        }
        total = std::exp(sinks[h] - largest);
        double* out = &attn[(size_t(t) * heads + h) * kDim];
        for (size_t i = 0; i < scores.size(); ++i) {
          const double weight = std::exp(scores[i] - largest);
          total += weight;
          for (int d = 0; d < kDim; ++d) out[d] += weight * values[base + (from + i) * row + d];
        }
        for (int d = 0; d < kDim; ++d) out[d] /= total;
        lse[size_t(t) * heads + h] = largest + std::log(total);
      }
  }
};

// A case in device memory, and what its kernels are told.
struct Operands {
  const Case& c;
  harness::GpuVector<LiveCounts> live{std::vector<LiveCounts>{{c.tokens(), 0, 0}}};
  harness::GpuVector<int32_t> position{c.position}, sequence{c.sequence}, pages{c.pages};
  harness::GpuVector<float> qkv{with_room_for_keys()}, sinks{c.sinks}, attn{c.attn.size()}, lse{c.lse.size()};
  int splits = (c.table_pages + kPagesPerSplit - 1) / kPagesPerSplit;
  harness::GpuVector<float> partial{c.lse.size() * splits * (2 + kDim)};
  harness::GpuVector<uint16_t> cache{c.cache}, terms{c.attn.size()};

  explicit Operands(const Case& c) : c(c) {}
  std::vector<float> with_room_for_keys() const {
    const size_t q = size_t(c.heads) * kDim, all = size_t(c.heads + 2 * c.kv_heads) * kDim;
    std::vector<float> rows(c.tokens() * all, 0.0f);
    for (int t = 0; t < c.tokens(); ++t) std::copy_n(&c.q[t * q], q, &rows[t * all]);
    return rows;
  }
  AttentionArgs args() {
    const size_t head_bytes = size_t{2} * kDim * kPageTokens * 2;
    return {.live = live.data(), .position = position.data(), .sequence = sequence.data(), .qkv = qkv.data(), .sinks = sinks.data(),
            .kv = {.layer = reinterpret_cast<uint8_t*>(cache.data()), .page_bytes = head_bytes * c.kv_heads, .head_bytes = head_bytes,
                   .pages = pages.data(), .table_pages = c.table_pages,
                   .pool_pages = static_cast<int>(c.cache.size() * 2 / (head_bytes * c.kv_heads))},
            .attn = attn.data(), .lse = lse.data(), .terms = terms.data(), .partial = partial.data(), .splits = splits, .heads = c.heads,
            .kv_heads = c.kv_heads, .head_dim = kDim, .window = c.window, .scale = 0.125f, .round_weights = true};
  }
  // Of what was computed. Weights are rounded to bf16, 2^-9 each at most, against values of size 1; scores are float32 sums.
  double error() const { return std::max(harness::worst(attn.host(), c.attn, 0x1p-8), harness::worst(lse.host(), c.lse, 2e-5)); }
};

}  // namespace attention
