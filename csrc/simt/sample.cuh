// next_token (samples) = a draw from a row of logits (rows, vocab), as csrc/sampling.h says; log probabilities
//
// Four kernels, blocks of which take slices of the vocabulary; what they find of a slice is in SampleSlice.
//   sample_scan       each slice: its best token, its part of log_sum and its most probable tokens, of the logits as the
//                     model gave them; then edits and mask, and its best token again.
//   sample_weigh      without top_k and top_p: each slice's best draw. With them: how many tokens, or without top_k how
//                     much mass, each of 4096 bins has: of sort keys by their leading bits.
//   sample_collect    the tokens of the bins in which the last candidate is, and of those before it.
//   sample_finish     a block for each sample: the last candidate among what was collected, by eight rounds of a radix
//                     select on 64-bit keys (value, id), and the draw.
// Bound by latency, and by reading the row three times, vocab * 4 bytes (0.8 MB of the 20b); with a flat distribution
// and top_p, by the one block that ends it.
// What decides is integers and minima, which have no order; log_sum is float64, summed in a fixed tree.
// Tested by test_gpu_device.py: the very tokens of the CPU, under every parameter.
#pragma once

#include "../args.h"
#include "block.cuh"
#include "route.cuh"

namespace gptoss::simt {

using U64 = unsigned long long;
constexpr U64 kNoKey = ~U64{0};

GPTOSS_DEVICE U64 lowest(U64 key, U64* slots) { return block_reduce(key, slots, Lower()); }
GPTOSS_DEVICE int token_of(U64 key) { return static_cast<int>(static_cast<uint32_t>(key)); }

// A sample, and what is known of it. All functions that end with the block's result are called by all its threads.
struct Draw {
  const SampleArgs& a;
  int sample;
  SampleParams p;
  float* logits;
  int slices;

  GPTOSS_DEVICE Draw(const SampleArgs& a, int sample)
      : a(a), sample(sample), p(a.sampling[sample]), logits(a.logits + static_cast<size_t>(p.row) * a.vocab),
        slices((a.vocab + kSliceTokens - 1) / kSliceTokens) {}

  GPTOSS_DEVICE SampleSlice* parts() const { return a.slices + static_cast<size_t>(sample) * slices; }
  GPTOSS_DEVICE float scaled(int v) const { return logits[v] / p.temperature; }

  // The best token of all slices by `key`, or -1 where a logit is not a number or the largest not finite.
  GPTOSS_DEVICE int best(U64 SampleSlice::*key, int32_t SampleSlice::*bad, U64* slots) const {
    U64 best = kNoKey;
    int any = 0;
    for (int s = threadIdx.x; s < slices; s += blockDim.x) {
      best = parts()[s].*key < best ? parts()[s].*key : best;
      any |= parts()[s].*bad;
    }
    best = lowest(best, slots);
    if (__syncthreads_or(any)) return -1;
    return sampling::is_finite(value_of(best)) ? token_of(best) : -1;
  }
  // The value that a sort key was made of.
  static GPTOSS_DEVICE float value_of(U64 key) { return sampling::unordered(~static_cast<uint32_t>(key >> 32)); }

  GPTOSS_DEVICE bool is_greedy(float scaled_max) const {
    return p.temperature < sampling::kGreedyBelow || !sampling::is_finite(scaled_max);
  }
  GPTOSS_DEVICE bool has_top_k() const { return p.top_k > 0 && p.top_k < a.vocab; }
  GPTOSS_DEVICE bool has_top_p() const { return p.top_p < 1; }
  // The least mass that min_p leaves; top_p looks at no token without mass.
  GPTOSS_DEVICE uint64_t least() const {
    const uint64_t least = sampling::least_mass(p.min_p);
    return has_top_p() && least == 0 ? 1 : least;
  }
  // argmax over what is left: a key for each token that competes.
  GPTOSS_DEVICE U64 drawn(uint32_t hash, int v) const {
    return sort_key(scaled(v) + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v))), static_cast<uint32_t>(v));
  }
  GPTOSS_DEVICE uint32_t hash() const {
    return sampling::hash_draw(p.seed[0], p.seed[1], p.index, static_cast<uint32_t>(a.position[a.row[p.row]]) + 1);
  }
};

__global__ void __launch_bounds__(kSampleThreads, 2) sample_scan(SampleArgs a) {
  wait_for_predecessors();
  GPTOSS_DYNAMIC_SHARED(U64, slots);  // of kMaxWarps
  const int sample = static_cast<int>(blockIdx.y), slice = static_cast<int>(blockIdx.x);
  if (sample >= a.live->samples) return;  // the whole block
  const Draw d(a, sample);
  const int first = slice * kSliceTokens, end = min(first + kSliceTokens, a.vocab);
  SampleSlice& part = d.parts()[slice];
  for (int bin = slice * kSampleThreads + static_cast<int>(threadIdx.x); bin < kSampleBins; bin += d.slices * kSampleThreads)
    a.bins[static_cast<size_t>(sample) * kSampleBins + bin] = 0;
  if (slice == 0 && threadIdx.x == 0) a.collected[sample] = 0;

  // The slice's best token whose key is above `after`.
  const auto best_after = [&](U64 after, bool any) {
    U64 best = kNoKey;
    for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kSampleThreads) {
      const U64 key = sort_key(d.logits[v], static_cast<uint32_t>(v));
      if (key < best && (any || key > after)) best = key;
    }
    return lowest(best, slots);
  };
  const auto any_bad = [&] {
    int bad = 0;
    for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kSampleThreads) bad |= d.logits[v] != d.logits[v];
    return __syncthreads_or(bad);
  };

  const int bad = any_bad();
  const U64 best = best_after(0, true);
  const float largest = Draw::value_of(best);
  double sum = 0;
  if (d.p.logprobs >= 0 && sampling::is_finite(largest)) {
    for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kSampleThreads)
      sum += exp(static_cast<double>(d.logits[v]) - largest);
    sum = block_reduce(sum, reinterpret_cast<double*>(slots), Sum());
  }
  U64 key = best;
  for (int i = 0; i < min(d.p.logprobs, a.max_logprobs); ++i) {
    if (i > 0) key = key == kNoKey ? kNoKey : best_after(key, false);
    if (threadIdx.x == 0) part.top[i] = key;
  }
  __syncthreads();  // all have read the logits as the model gave them
  for (int i = d.p.first_edit + static_cast<int>(threadIdx.x); i < d.p.last_edit; i += kSampleThreads) {
    TokenEdit& edit = a.edits[i];  // at most one per token
    if (edit.token < first || edit.token >= end) continue;
    edit.original = d.logits[edit.token];
    d.logits[edit.token] = sampling::edited(edit.original, edit, d.p);
  }
  __syncthreads();  // edits are written, by threads that need not be those that mask
  if (d.p.mask >= 0) {
    const uint32_t* mask = a.masks + static_cast<size_t>(d.p.mask) * a.mask_words;
    for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kSampleThreads)
      if (!(mask[v / 32] >> (v % 32) & 1)) d.logits[v] = -INFINITY;
    __syncthreads();  // the mask is on
  }
  const int bad_now = any_bad();
  const U64 best_now = best_after(0, true);
  if (threadIdx.x == 0) {
    part.given = best, part.best = best_now;
    part.given_bad = bad, part.bad = bad_now;
    part.sum = sum;
  }
}

__global__ void __launch_bounds__(kSampleThreads) sample_weigh(SampleArgs a) {
  wait_for_predecessors();
  GPTOSS_DYNAMIC_SHARED(U64, slots);
  U64* const bins = slots + kMaxWarps;  // the slice's own: its tokens fall into a few
  const int sample = static_cast<int>(blockIdx.y), slice = static_cast<int>(blockIdx.x);
  if (sample >= a.live->samples) return;  // the whole block
  const Draw d(a, sample);
  const int best = d.best(&SampleSlice::best, &SampleSlice::bad, slots);
  if (best < 0) return;
  const float scaled_max = d.scaled(best);
  if (d.is_greedy(scaled_max)) return;
  const uint64_t least = d.least();
  const bool select = d.has_top_k() || d.has_top_p();
  const uint32_t hash = d.hash();
  if (select) {
    for (int bin = threadIdx.x; bin < kSampleBins; bin += kSampleThreads) bins[bin] = 0;
    __syncthreads();  // the bins are empty
  }
  U64 drawn = kNoKey;
  for (int v = slice * kSliceTokens + static_cast<int>(threadIdx.x); v < min((slice + 1) * kSliceTokens, a.vocab);
       v += kSampleThreads) {
    const uint64_t mass = sampling::mass(d.scaled(v), scaled_max);
    if (select) {
      if (mass < least) continue;
      atomicAdd(&bins[sort_key(d.scaled(v), 0) >> kKeyBinShift], d.has_top_k() ? U64{1} : static_cast<U64>(mass));
    } else if (d.logits[v] != -INFINITY && mass >= least) {
      const U64 key = d.drawn(hash, v);
      drawn = key < drawn ? key : drawn;
    }
  }
  drawn = lowest(drawn, slots);
  if (threadIdx.x == 0) d.parts()[slice].drawn = drawn;
  if (!select) return;
  __syncthreads();  // the bins are full
  for (int bin = threadIdx.x; bin < kSampleBins; bin += kSampleThreads)
    if (bins[bin] > 0) atomicAdd(&a.bins[static_cast<size_t>(sample) * kSampleBins + bin], bins[bin]);
}
inline size_t weigh_shared() { return (kMaxWarps + kSampleBins) * sizeof(U64); }

// What the bins of a sample say, found by its blocks each for itself.
struct Cut {
  U64 weight;  // of all bins
  int last;    // the bin of the last candidate
};
GPTOSS_DEVICE Cut find_cut(const Draw& d, U64* slots) {
  const U64* bins = d.a.bins + static_cast<size_t>(d.sample) * kSampleBins;
  const int each = kSampleBins / static_cast<int>(blockDim.x), first = static_cast<int>(threadIdx.x) * each;
  U64 mine = 0;
  for (int i = 0; i < each; ++i) mine += bins[first + i];
  Cut cut;
  cut.weight = block_reduce(mine, slots, Sum());
  U64 before = block_sum_before(mine, slots);
  const U64 limit = d.has_top_k() ? static_cast<U64>(d.p.top_k) : static_cast<U64>(sampling::nucleus_limit(cut.weight, d.p.top_p));
  U64 last = kSampleBins - 1;  // where there are fewer than top_k keeps
  if (before < limit && before + mine >= limit)  // one thread
    for (last = static_cast<U64>(first); (before += bins[last]) < limit;) ++last;
  cut.last = static_cast<int>(block_reduce(last, slots, Lower()));
  return cut;
}

__global__ void __launch_bounds__(kSampleThreads) sample_collect(SampleArgs a) {
  wait_for_predecessors();
  GPTOSS_DYNAMIC_SHARED(U64, slots);
  const int sample = static_cast<int>(blockIdx.y), slice = static_cast<int>(blockIdx.x);
  if (sample >= a.live->samples) return;  // the whole block
  const Draw d(a, sample);
  if (!d.has_top_k() && !d.has_top_p()) return;
  const int best = d.best(&SampleSlice::best, &SampleSlice::bad, slots);
  if (best < 0) return;
  const float scaled_max = d.scaled(best);
  if (d.is_greedy(scaled_max)) return;
  const Cut cut = find_cut(d, slots);
  int32_t* collected = a.candidates + static_cast<size_t>(sample) * a.vocab;
  for (int v = slice * kSliceTokens + static_cast<int>(threadIdx.x); v < min((slice + 1) * kSliceTokens, a.vocab);
       v += kSampleThreads)
    if (static_cast<int>(sort_key(d.scaled(v), 0) >> kKeyBinShift) <= cut.last &&
        sampling::mass(d.scaled(v), scaled_max) >= d.least())
      collected[atomicAdd(&a.collected[sample], 1)] = v;  // in any order: what follows has none
}

struct FinishShared {
  U64 slots[kMaxWarps];
  U64 bins[kRadixBins];
  U64 prefix, remaining;
  float original;
};

// What min_p, top_k and top_p leave of the tokens that were collected.
struct Candidates {
  const Draw& d;
  const int32_t* tokens;
  int count;
  float scaled_max;
  FinishShared& shared;
  U64 end = kNoKey;      // the last key that is one
  uint64_t least = 0;    // the least mass
  bool by_mass = false;  // a candidate weighs its mass; otherwise 1

  // The weight of token v, 0 if it is no candidate.
  GPTOSS_DEVICE U64 weight(int v, U64& key) const {
    const float x = d.scaled(v);
    key = sort_key(x, static_cast<uint32_t>(v));
    if (key > end) return 0;
    const uint64_t mass = sampling::mass(x, scaled_max);
    if (mass < least) return 0;
    return by_mass ? mass : 1;
  }
  GPTOSS_DEVICE U64 total() const {
    U64 sum = 0, key = 0;
    for (int i = threadIdx.x; i < count; i += kFinishThreads) sum += weight(tokens[i], key);
    return block_reduce(sum, shared.slots, Sum());
  }
  // The last candidate whose predecessors weigh less than `limit`, which is at least 1: digit by digit.
  GPTOSS_DEVICE U64 last_before(U64 limit) const {
    U64 prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
      for (int bin = threadIdx.x; bin < kRadixBins; bin += kFinishThreads) shared.bins[bin] = 0;
      __syncthreads();  // the bins are empty
      for (int i = threadIdx.x; i < count; i += kFinishThreads) {
        U64 key;
        const U64 w = weight(tokens[i], key);
        const bool in = shift == 56 || key >> (shift + 8) == prefix >> (shift + 8);
        if (w > 0 && in) atomicAdd(&shared.bins[key >> shift & (kRadixBins - 1)], w);
      }
      __syncthreads();  // the bins are full
      if (threadIdx.x == 0) {
        U64 before = 0, chosen = 0, before_chosen = 0;
        for (int bin = 0; bin < kRadixBins && before < limit; ++bin) {
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
  // `all_mass`: where there is no top_k, of all tokens, of which not all were collected.
  GPTOSS_DEVICE int draw(U64 all_mass) {
    least = d.least();
    if (d.has_top_k()) end = last_before(static_cast<U64>(d.p.top_k));
    if (d.has_top_p()) {
      by_mass = true;
      end = last_before(sampling::nucleus_limit(d.has_top_k() ? total() : all_mass, d.p.top_p));
      by_mass = false;
    }
    least = sampling::least_mass(d.p.min_p);  // again: top_p looks at no mass but those before its end
    const uint32_t hash = d.hash();
    U64 best = kNoKey, key = 0;
    for (int i = threadIdx.x; i < count; i += kFinishThreads) {
      if (d.logits[tokens[i]] == -INFINITY || weight(tokens[i], key) == 0) continue;
      key = d.drawn(hash, tokens[i]);
      best = key < best ? key : best;
    }
    return token_of(lowest(best, shared.slots));
  }
};

__global__ void __launch_bounds__(kFinishThreads) sample_finish(SampleArgs a) {
  wait_for_predecessors();
  GPTOSS_DYNAMIC_SHARED(FinishShared, shared);
  const int i = static_cast<int>(blockIdx.x);
  if (i >= a.live->samples) return;  // the whole block
  const Draw d(a, i);
  const bool writes = threadIdx.x == 0;
  U64* const slots = shared->slots;

  const int given = d.best(&SampleSlice::given, &SampleSlice::given_bad, slots);
  if (given < 0) {
    if (writes) a.next_token[i] = -1;  // kNotFinite
    return;
  }
  double log_sum = 0;
  if (d.p.logprobs >= 0) {
    U64 largest_key = kNoKey;
    for (int s = threadIdx.x; s < d.slices; s += kFinishThreads)
      largest_key = d.parts()[s].given < largest_key ? d.parts()[s].given : largest_key;
    const double largest = Draw::value_of(lowest(largest_key, slots));
    double sum = 0;
    for (int s = threadIdx.x; s < d.slices; s += kFinishThreads)
      if (sampling::is_finite(Draw::value_of(d.parts()[s].given)))
        sum += d.parts()[s].sum * exp(static_cast<double>(Draw::value_of(d.parts()[s].given)) - largest);
    log_sum = largest + log(block_reduce(sum, reinterpret_cast<double*>(slots), Sum()));
  }
  U64 after = 0;
  const int listed = min(min(d.p.logprobs, a.max_logprobs), a.vocab);
  for (int n = 0; n < listed; ++n) {
    U64 next = kNoKey;
    for (int e = threadIdx.x; e < d.slices * listed; e += kFinishThreads) {
      const U64 key = d.parts()[e / listed].top[e % listed];
      if (key < next && (n == 0 || key > after)) next = key;
    }
    after = lowest(next, slots);
    if (!writes) continue;
    a.top_token[i * a.max_logprobs + n] = token_of(after);
    a.top_logprob[i * a.max_logprobs + n] = static_cast<float>(Draw::value_of(after) - log_sum);
  }

  const int best = d.best(&SampleSlice::best, &SampleSlice::bad, slots);
  if (best < 0) {
    if (writes) a.next_token[i] = -2;  // kNothingAllowed
    return;
  }
  const float scaled_max = d.scaled(best);
  int drawn = best;
  if (!d.is_greedy(scaled_max)) {
    if (d.has_top_k() || d.has_top_p()) {
      const Cut cut = find_cut(d, slots);
      Candidates candidates{d, a.candidates + static_cast<size_t>(i) * a.vocab, a.collected[i], scaled_max, *shared};
      drawn = candidates.draw(cut.weight);
    } else {
      U64 key = kNoKey;
      for (int s = threadIdx.x; s < d.slices; s += kFinishThreads) key = d.parts()[s].drawn < key ? d.parts()[s].drawn : key;
      drawn = token_of(lowest(key, slots));
    }
  }
  if (writes) a.next_token[i] = drawn;
  if (d.p.logprobs < 0) return;
  // The logit as the model gave it, of a token that the mask allows.
  if (writes) shared->original = d.logits[drawn];
  __syncthreads();  // before the one edit of this token, if there is one
  for (int e = d.p.first_edit + static_cast<int>(threadIdx.x); e < d.p.last_edit; e += kFinishThreads)
    if (a.edits[e].token == drawn) shared->original = a.edits[e].original;
  __syncthreads();  // it is there
  if (writes) a.logprob[i] = static_cast<float>(shared->original - log_sum);
}

}  // namespace gptoss::simt
