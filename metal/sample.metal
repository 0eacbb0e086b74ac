// next_token (samples) = a draw from a row of logits (rows, vocab), as csrc/sampling.h says; log probabilities
//
// Four kernels, threadgroups of which take slices of the vocabulary; what they find of a slice is in SampleSlice.
//   sample_scan       each slice: its best token, its part of log_sum and its most probable tokens, of the logits as the
//                     model gave them; then edits and mask, and its best token again.
//   sample_weigh      without top_k and top_p: each slice's best draw. With them: how many tokens, or without top_k how
//                     much mass, each of 4096 bins has: of sort keys by their leading bits.
//   sample_collect    the tokens of the bins in which the last candidate is, and of those before it.
//   sample_finish     a threadgroup for each sample: the last candidate among what was collected, by eight rounds of a
//                     radix select on 64-bit keys (value, id), and the draw.
// Bound by latency, and by reading the row three times, vocab * 4 bytes (0.8 MB of the 20b).
// What decides is integers and minima, which have no order; log_sum is a sum of Pairs in a fixed tree.
// Tested by test_metal.py: the very tokens of the CPU, under every parameter. Reads as csrc/simt/sample.cuh, with Pairs in
// place of float64, and sums of 64 bits out of two of 32.
#include "draw.h"

using namespace gptoss;

// A slice of a sample's row, and who works on it.
struct Slice {
  Draw d;
  Team team;
  int first, end;

  // The slice's best token whose key is above `after`.
  U64 best_after(U64 after, bool any) const {
    U64 best = kNoKey;
    for (int v = first + team.index; v < end; v += team.threads) {
      const U64 key = sort_key(d.logits[v], static_cast<uint32_t>(v));
      if (key < best && (any || key > after)) best = key;
    }
    return team.lowest(best);
  }
  bool any_bad() const {
    bool bad = false;
    for (int v = first + team.index; v < end; v += team.threads) bad = bad || d.logits[v] != d.logits[v];
    return team.any(bad);
  }
  Pair sum_of_exp(float largest) const {
    Pair sum = {0.0f, 0.0f};
    for (int v = first + team.index; v < end; v += team.threads)
      sum = add_any(sum, exp_pair(two_sum(d.logits[v], -largest)));
    return team.reduce(sum, AddPairs());
  }
};

kernel void sample_scan(constant SampleArgs& a [[buffer(0)]], threadgroup U64* slots [[threadgroup(0)]], GPTOSS_PLACE) {
  const int sample = block.y, slice = block.x, index = thread_index;
  if (sample >= a.live->samples) return;  // the whole threadgroup
  const Draw d(a, sample);
  const Slice s = {d, Team{index, kSampleThreads, lane, warp, slots}, d.first(slice), d.end(slice)};
  for (int bin = slice * kSampleThreads + index; bin < kSampleBins; bin += d.slices * kSampleThreads) d.bins()[bin] = 0;
  if (slice == 0 && index == 0) a.collected[sample] = 0;

  device SampleSlice& part = d.parts()[slice];
  const bool bad = s.any_bad();
  const U64 best = s.best_after(0, true);
  const float largest = value_of(best);
  Pair sum = {0.0f, 0.0f};
  if (d.p.logprobs >= 0 && sampling::is_finite(largest)) sum = s.sum_of_exp(largest);
  U64 key = best;
  for (int i = 0; i < min(d.p.logprobs, a.max_logprobs); ++i) {
    if (i > 0) key = key == kNoKey ? kNoKey : s.best_after(key, false);
    if (index == 0) part.top[i] = key;
  }
  sync_block();  // all have read the logits as the model gave them
  for (int i = d.p.first_edit + index; i < d.p.last_edit; i += kSampleThreads) {
    const int token = a.edits[i].token;  // at most one edit per token
    if (token < s.first || token >= s.end) continue;
    const float logit = d.logits[token];
    a.edits[i].original = logit;
    d.logits[token] = sampling::edited(logit, a.edits[i], d.p);
  }
  sync_block();  // edits are written, by threads that need not be those that mask
  if (d.p.mask >= 0) {
    device const uint32_t* mask = a.masks + static_cast<size_t>(d.p.mask) * a.mask_words;
    for (int v = s.first + index; v < s.end; v += kSampleThreads)
      if (!(mask[v / 32] >> (v % 32) & 1)) d.logits[v] = -INFINITY;
    sync_block();  // the mask is on
  }
  const bool bad_now = s.any_bad();
  const U64 best_now = s.best_after(0, true);
  if (index == 0) {
    part.given = best;
    part.best = best_now;
    part.given_bad = bad;
    part.bad = bad_now;
    part.sum = sum;
  }
}

kernel void sample_weigh(constant SampleArgs& a [[buffer(0)]], threadgroup U64* bins [[threadgroup(0)]], GPTOSS_PLACE) {
  const int sample = block.y, slice = block.x, index = thread_index;
  if (sample >= a.live->samples) return;  // the whole threadgroup
  const Draw d(a, sample);
  const Team team = {index, kSampleThreads, lane, warp, bins};
  const int best = d.best(team, false);
  if (best < 0) return;
  const float scaled_max = d.scaled(best);
  if (d.is_greedy(scaled_max)) return;
  const U64 least = d.least();
  if (!d.has_top_k() && !d.has_top_p()) {
    const uint32_t hash = d.hash();
    U64 drawn = kNoKey;
    for (int v = d.first(slice) + index; v < d.end(slice); v += kSampleThreads) {
      if (d.logits[v] == -INFINITY || sampling::mass(d.scaled(v), scaled_max) < least) continue;
      const U64 key = d.drawn(hash, v);
      drawn = key < drawn ? key : drawn;
    }
    drawn = team.lowest(drawn);
    if (index == 0) d.parts()[slice].drawn = drawn;
    return;
  }
  for (int bin = index; bin < kSampleBins; bin += kSampleThreads) bins[bin] = 0;
  sync_block();  // the slice's bins are empty
  for (int v = d.first(slice) + index; v < d.end(slice); v += kSampleThreads) {
    const U64 mass = sampling::mass(d.scaled(v), scaled_max);
    if (mass < least) continue;
    threadgroup U64* bin = bins + (sort_key(d.scaled(v), 0) >> kKeyBinShift);
    add_atomically(reinterpret_cast<threadgroup atomic_uint*>(bin), d.has_top_k() ? 1 : mass);
  }
  sync_block();  // the slice's bins are full
  for (int bin = index; bin < kSampleBins; bin += kSampleThreads)
    if (bins[bin] > 0) add_atomically(reinterpret_cast<device atomic_uint*>(d.bins() + bin), bins[bin]);
}

// What the bins of a sample say, found by its threadgroups each for itself.
struct Cut {
  U64 weight;  // of all bins
  int last;    // the bin of the last candidate
};
inline Cut find_cut(Draw d, Team team) {
  device const GPTOSS_U64* bins = d.bins();
  const int each = kSampleBins / team.threads, first = team.index * each;
  U64 mine = 0;
  for (int i = 0; i < each; ++i) mine += bins[first + i];
  Cut cut;
  cut.weight = team.reduce(mine, Sum());
  U64 before = block_sum_before(mine, team.slots, team.lane, team.warp);
  const U64 limit = d.has_top_k() ? static_cast<U64>(d.p.top_k) : sampling::nucleus_limit(cut.weight, d.p.top_p);
  U64 last = kSampleBins - 1;  // where there are fewer than top_k keeps
  if (before < limit && before + mine >= limit)  // one thread
    for (last = static_cast<U64>(first); (before += bins[last]) < limit;) ++last;
  cut.last = static_cast<int>(team.lowest(last));
  return cut;
}

kernel void sample_collect(constant SampleArgs& a [[buffer(0)]], threadgroup U64* slots [[threadgroup(0)]], GPTOSS_PLACE) {
  const int sample = block.y, slice = block.x, index = thread_index;
  if (sample >= a.live->samples) return;  // the whole threadgroup
  const Draw d(a, sample);
  if (!d.has_top_k() && !d.has_top_p()) return;
  const Team team = {index, kSampleThreads, lane, warp, slots};
  const int best = d.best(team, false);
  if (best < 0) return;
  const float scaled_max = d.scaled(best);
  if (d.is_greedy(scaled_max)) return;
  const Cut cut = find_cut(d, team);
  device int32_t* collected = d.candidates();
  for (int v = d.first(slice) + index; v < d.end(slice); v += kSampleThreads) {
    if (static_cast<int>(sort_key(d.scaled(v), 0) >> kKeyBinShift) > cut.last ||
        sampling::mass(d.scaled(v), scaled_max) < d.least())
      continue;
    const uint place = atomic_fetch_add_explicit(reinterpret_cast<device atomic_uint*>(a.collected + sample), 1u, memory_order_relaxed);
    collected[place] = v;  // in any order: what follows has none
  }
}

// What min_p, top_k and top_p leave of the tokens that were collected.
struct Candidates {
  Draw d;
  Team team;
  threadgroup FinishShared* shared;
  device const int32_t* tokens;
  int count;
  float scaled_max;
  U64 end;       // the last key that is one
  U64 least;     // the least mass
  bool by_mass;  // a candidate weighs its mass; otherwise 1

  // The weight of token v, 0 if it is no candidate.
  U64 weight(int v, thread U64& key) const {
    const float x = d.scaled(v);
    key = sort_key(x, static_cast<uint32_t>(v));
    if (key > end) return 0;
    const U64 mass = sampling::mass(x, scaled_max);
    if (mass < least) return 0;
    return by_mass ? mass : 1;
  }
  U64 total() const {
    U64 sum = 0, key = 0;
    for (int i = team.index; i < count; i += team.threads) sum += weight(tokens[i], key);
    return team.reduce(sum, Sum());
  }
  // The last candidate whose predecessors weigh less than `limit`, which is at least 1: digit by digit.
  U64 last_before(U64 limit) const {
    U64 prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
      for (int bin = team.index; bin < kRadixBins; bin += team.threads) shared->bins[bin] = 0;
      sync_block();  // the bins are empty
      for (int i = team.index; i < count; i += team.threads) {
        U64 key;
        const U64 w = weight(tokens[i], key);
        const bool in = shift == 56 || key >> (shift + 8) == prefix >> (shift + 8);
        if (w > 0 && in)
          add_atomically(reinterpret_cast<threadgroup atomic_uint*>(&shared->bins[key >> shift & (kRadixBins - 1)]), w);
      }
      sync_block();  // the bins are full
      if (team.index == 0) {
        U64 before = 0, chosen = 0, before_chosen = 0;
        for (int bin = 0; bin < kRadixBins && before < limit; ++bin) {
          if (shared->bins[bin] == 0) continue;
          chosen = bin;
          before_chosen = before;
          before += shared->bins[bin];
        }
        shared->prefix = prefix | chosen << shift;
        shared->remaining = limit - before_chosen;
      }
      sync_block();  // the digit is known, and the bins may be emptied
      prefix = shared->prefix;
      limit = shared->remaining;
    }
    return prefix;
  }
  // `all_mass`: where there is no top_k, of all tokens, of which not all were collected.
  int draw(U64 all_mass) {
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
    for (int i = team.index; i < count; i += team.threads) {
      if (d.logits[tokens[i]] == -INFINITY || weight(tokens[i], key) == 0) continue;
      key = d.drawn(hash, tokens[i]);
      best = key < best ? key : best;
    }
    return token_of(team.lowest(best));
  }
};

// largest + log(sum of exp(logit - largest)), of the logits as the model gave them
inline Pair log_sum(Draw d, Team team) {
  U64 largest_key = kNoKey;
  for (int s = team.index; s < d.slices; s += team.threads)
    largest_key = d.parts()[s].given < largest_key ? d.parts()[s].given : largest_key;
  const float largest = value_of(team.lowest(largest_key));
  Pair sum = {0.0f, 0.0f};
  for (int s = team.index; s < d.slices; s += team.threads) {
    const float given = value_of(d.parts()[s].given);
    if (sampling::is_finite(given)) sum = add_any(sum, mul(d.parts()[s].sum, exp_pair(two_sum(given, -largest))));
  }
  const Pair total = add_any(log_pair(team.reduce(sum, AddPairs())), largest);
  // Of logits as large as floats get a float64 keeps no more than the largest: neither does this.
  return {total.hi, fabsf(total.lo) < fabsf(total.hi) * 1.1102230e-16f ? 0.0f : total.lo};  // 2^-53
}

[[max_total_threads_per_threadgroup(512)]]
kernel void sample_finish(constant SampleArgs& a [[buffer(0)]], threadgroup FinishShared* shared [[threadgroup(0)]], GPTOSS_PLACE) {
  const int i = block.x;
  if (i >= a.live->samples) return;  // the whole threadgroup
  const Draw d(a, i);
  const Team team = {static_cast<int>(thread_index), kFinishThreads, lane, warp, shared->slots};
  const bool writes = thread_index == 0;

  const int given = d.best(team, true);
  if (given < 0) {
    if (writes) a.next_token[i] = -1;  // kNotFinite
    return;
  }
  Pair sum = {0.0f, 0.0f};
  if (d.p.logprobs >= 0) sum = log_sum(d, team);
  U64 after = 0;
  const int listed = min(min(d.p.logprobs, a.max_logprobs), a.vocab);
  for (int n = 0; n < listed; ++n) {
    U64 next = kNoKey;
    for (int e = team.index; e < d.slices * listed; e += kFinishThreads) {
      const U64 key = d.parts()[e / listed].top[e % listed];
      if (key < next && (n == 0 || key > after)) next = key;
    }
    after = team.lowest(next);
    if (!writes) continue;
    a.top_token[i * a.max_logprobs + n] = token_of(after);
    a.top_logprob[i * a.max_logprobs + n] = difference(value_of(after), sum);
  }

  const int best = d.best(team, false);
  if (best < 0) {
    if (writes) a.next_token[i] = -2;  // kNothingAllowed
    return;
  }
  const float scaled_max = d.scaled(best);
  int drawn = best;
  if (!d.is_greedy(scaled_max)) {
    if (d.has_top_k() || d.has_top_p()) {
      const Cut cut = find_cut(d, team);
      Candidates left = {d, team, shared, d.candidates(), a.collected[i], scaled_max, kNoKey, 0, false};
      drawn = left.draw(cut.weight);
    } else {
      U64 key = kNoKey;
      for (int s = team.index; s < d.slices; s += kFinishThreads) key = d.parts()[s].drawn < key ? d.parts()[s].drawn : key;
      drawn = token_of(team.lowest(key));
    }
  }
  if (writes) a.next_token[i] = drawn;
  if (d.p.logprobs < 0) return;
  // The logit as the model gave it, of a token that the mask allows.
  if (writes) shared->original = d.logits[drawn];
  sync_block();  // before the one edit of this token, if there is one
  for (int e = d.p.first_edit + team.index; e < d.p.last_edit; e += kFinishThreads)
    if (a.edits[e].token == drawn) shared->original = a.edits[e].original;
  sync_block();  // it is there
  if (writes) a.logprob[i] = difference(shared->original, sum);
}
