// next_token (samples) = a draw from a row of logits (rows, vocab), as csrc/sampling.h says; log probabilities
//
// A block per sample; its threads stride over the vocabulary. top_k and top_p find their last token by eight
// rounds of a radix select on 64-bit keys (value, id), over counts or integer masses in 256 bins.
// Bound by latency: up to some 20 passes over vocab * 4 bytes, from cache (0.8 MB of the 20b).
// What decides is integers and minima, which have no order; log_sum is float64, summed in a fixed tree.
// Tested by test_gpu_device.py: the very tokens of the CPU, under every parameter.
#pragma once

#include "../args.h"
#include "block.cuh"
#include "route.cuh"

namespace gptoss::simt {

using U64 = unsigned long long;
constexpr U64 kNoKey = ~U64{0};

struct SampleShared {
  U64 slots[kMaxWarps];
  U64 bins[kBins];
  U64 prefix, remaining;
  float original;
};

// One draw of a block. All functions are called by all threads and return the same in all.
struct Draw {
  float* logits;
  int vocab;
  SampleParams p;
  SampleShared& shared;

  GPTOSS_DEVICE U64 lowest(U64 key) const { return block_reduce(key, shared.slots, Lower()); }
  GPTOSS_DEVICE float scaled(int v) const { return logits[v] / p.temperature; }

  // The most probable token whose key is above `after`; kNoKey if there is none.
  GPTOSS_DEVICE U64 best_after(U64 after, bool first) const {
    U64 best = kNoKey;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) {
      const U64 key = sort_key(logits[v], static_cast<uint32_t>(v));
      if (key < best && (first || key > after)) best = key;
    }
    return lowest(best);
  }

  // The most probable token, or -1 where a logit is not a number or the largest not finite.
  GPTOSS_DEVICE int best() const {
    int bad = 0;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) bad |= logits[v] != logits[v];
    if (__syncthreads_or(bad)) return -1;
    const int token = static_cast<int>(static_cast<uint32_t>(best_after(0, true)));
    return fabsf(logits[token]) < INFINITY ? token : -1;
  }

  GPTOSS_DEVICE double log_sum(float largest) const {
    double sum = 0;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) sum += exp(static_cast<double>(logits[v]) - largest);
    return largest + log(block_reduce(sum, reinterpret_cast<double*>(shared.slots), Sum()));
  }

  GPTOSS_DEVICE void top(int count, double log_sum, int32_t* token, float* logprob) const {
    U64 key = 0;
    for (int i = 0; i < min(count, vocab); ++i) {
      key = best_after(key, i == 0);
      if (threadIdx.x != 0) continue;
      token[i] = static_cast<int32_t>(static_cast<uint32_t>(key));
      logprob[i] = static_cast<float>(logits[token[i]] - log_sum);
    }
  }

  GPTOSS_DEVICE void edit(TokenEdit* edits, const uint32_t* mask) const {
    __syncthreads();  // all have read the logits as the model gave them
    for (int i = p.first_edit + static_cast<int>(threadIdx.x); i < p.last_edit; i += blockDim.x) {
      float& logit = logits[edits[i].token];  // at most one edit per token
      edits[i].original = logit;
      logit = sampling::edited(logit, edits[i], p);
    }
    __syncthreads();  // edits are written, by threads that need not be those that mask
    if (!mask) return;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x)
      if (!(mask[v / 32] >> (v % 32) & 1)) logits[v] = -INFINITY;
    __syncthreads();  // the mask is on
  }

  // The logit as the model gave it, of a token that the mask allows.
  GPTOSS_DEVICE float original(int token, const TokenEdit* edits) const {
    if (threadIdx.x == 0) shared.original = logits[token];
    __syncthreads();  // before the one edit of this token, if there is one
    for (int i = p.first_edit + static_cast<int>(threadIdx.x); i < p.last_edit; i += blockDim.x)
      if (edits[i].token == token) shared.original = edits[i].original;
    __syncthreads();  // it is there
    return shared.original;
  }

  struct Candidates {
    U64 end = kNoKey;      // the last key that is one
    uint64_t least = 0;    // the least mass
    float scaled_max = 0;
    bool by_mass = false;  // a candidate weighs its mass; otherwise 1
  };

  // The weight of token v, 0 if it is no candidate.
  GPTOSS_DEVICE U64 weight(const Candidates& c, int v, U64& key) const {
    const float x = scaled(v);
    key = sort_key(x, static_cast<uint32_t>(v));
    if (key > c.end) return 0;
    const uint64_t mass = sampling::mass(x, c.scaled_max);
    if (mass < c.least) return 0;
    return c.by_mass ? mass : 1;
  }

  GPTOSS_DEVICE U64 total(const Candidates& c) const {
    U64 sum = 0, key = 0;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) sum += weight(c, v, key);
    return block_reduce(sum, shared.slots, Sum());
  }

  // The last candidate whose predecessors weigh less than `limit`, which is at least 1: digit by digit.
  GPTOSS_DEVICE U64 last_before(const Candidates& c, U64 limit) const {
    U64 prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
      for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x) shared.bins[bin] = 0;
      __syncthreads();  // the bins are empty
      for (int v = threadIdx.x; v < vocab; v += blockDim.x) {
        U64 key;
        const U64 w = weight(c, v, key);
        const bool in = shift == 56 || key >> (shift + 8) == prefix >> (shift + 8);
        if (w > 0 && in) atomicAdd(&shared.bins[key >> shift & (kBins - 1)], w);
      }
      __syncthreads();  // the bins are full
      if (threadIdx.x == 0) {
        U64 before = 0, chosen = 0, before_chosen = 0;
        for (int bin = 0; bin < kBins && before < limit; ++bin) {
          if (shared.bins[bin] == 0) continue;
          chosen = bin;
          before_chosen = before;
          before += shared.bins[bin];
        }
        shared.prefix = prefix | chosen << shift;
        shared.remaining = limit - before_chosen;
      }
      __syncthreads();  // the digit is known, and the bins may be emptied
      prefix = shared.prefix;
      limit = shared.remaining;
    }
    return prefix;
  }

  // What min_p, top_k and top_p leave.
  GPTOSS_DEVICE Candidates candidates(float scaled_max) const {
    Candidates c;
    c.scaled_max = scaled_max;
    c.least = sampling::least_mass(p.min_p);
    if (p.top_p < 1 && c.least == 0) c.least = 1;
    if (p.top_k > 0 && p.top_k < vocab) c.end = last_before(c, static_cast<U64>(p.top_k));
    if (p.top_p < 1) {
      c.by_mass = true;
      c.end = last_before(c, sampling::nucleus_limit(total(c), p.top_p));
      c.by_mass = false;
    }
    c.least = sampling::least_mass(p.min_p);  // again: top_p looks at no mass but those before its end
    return c;
  }

  GPTOSS_DEVICE int draw(int most_probable, uint32_t position) const {
    const float scaled_max = scaled(most_probable);
    if (p.temperature < sampling::kGreedyBelow || !(fabsf(scaled_max) < INFINITY)) return most_probable;
    const Candidates c = candidates(scaled_max);
    const bool all = p.min_p <= 0 && p.top_k <= 0 && p.top_p >= 1;
    const uint32_t hash = sampling::hash_draw(p.seed[0], p.seed[1], p.index, position);
    U64 best = kNoKey;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) {
      U64 key;
      if (logits[v] == -INFINITY || (!all && weight(c, v, key) == 0)) continue;
      const float value = scaled(v) + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v)));
      const U64 drawn = sort_key(value, static_cast<uint32_t>(v));
      best = drawn < best ? drawn : best;
    }
    return static_cast<int>(static_cast<uint32_t>(lowest(best)));
  }
};

__global__ void __launch_bounds__(1024) sample(SampleArgs a) {
  GPTOSS_DYNAMIC_SHARED(SampleShared, shared);
  const int i = static_cast<int>(blockIdx.x);
  if (i >= a.live->samples) return;  // the whole block
  const SampleParams p = a.sampling[i];
  const Draw row{a.logits + static_cast<size_t>(p.row) * a.vocab, a.vocab, p, *shared};
  const bool writes = threadIdx.x == 0;

  int best = row.best();
  if (best < 0) {
    if (writes) a.next_token[i] = -1;  // kNotFinite
    return;
  }
  const double log_sum = p.logprobs >= 0 ? row.log_sum(row.logits[best]) : 0;
  if (p.logprobs > 0)
    row.top(min(p.logprobs, a.max_logprobs), log_sum, a.top_token + i * a.max_logprobs,
            a.top_logprob + i * a.max_logprobs);
  row.edit(a.edits, p.mask >= 0 ? a.masks + static_cast<size_t>(p.mask) * a.mask_words : nullptr);
  best = row.best();
  if (best < 0) {
    if (writes) a.next_token[i] = -2;  // kNothingAllowed
    return;
  }
  const int drawn = row.draw(best, static_cast<uint32_t>(a.position[a.row[p.row]]) + 1);
  if (writes) a.next_token[i] = drawn;
  if (p.logprobs < 0) return;
  const float original = row.original(drawn, a.edits);
  if (writes) a.logprob[i] = static_cast<float>(original - log_sum);
}

}  // namespace gptoss::simt
