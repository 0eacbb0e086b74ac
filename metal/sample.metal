// next_token (samples) = a draw from a row of logits (rows, vocab), as csrc/sampling.h says; log probabilities
//
// A block per sample; its threads stride over the vocabulary. top_k and top_p find their last token by eight
// rounds of a radix select on 64-bit keys (value, id), over counts or integer masses in 256 bins.
// Bound by latency: up to some 20 passes over vocab * 4 bytes, from cache (0.8 MB of the 20b).
// What decides is integers and minima, which have no order; log_sum is a sum of Pairs in a fixed tree.
// Tested by test_metal.py: the very tokens of the CPU, under every parameter. csrc/simt/sample.cuh cuts the vocabulary
// for many blocks, with float64 and atomic sums of 64 bits, which are not there: here are Pairs, and two sums of 32 bits
// and a carry.
#include "block.h"
#include "pair_exp.h"
#include "sample_shared.h"

using namespace gptoss;
using sampling::sort_key;

constant constexpr U64 kNoKey = ~U64(0);

struct AddPairs {
  Pair operator()(Pair a, Pair b) const { return add_any(a, b); }
};

// What min_p, top_k and top_p leave.
struct Candidates {
  U64 end = kNoKey;  // the last key that is one
  U64 least = 0;     // the least mass
  float scaled_max = 0;
  bool by_mass = false;  // a candidate weighs its mass; otherwise 1
};

// One draw of a block. All functions are called by all threads and return the same in all.
struct Draw {
  device float* logits;
  int vocab;
  SampleParams p;
  threadgroup SampleShared* shared;
  int thread_index, threads;
  uint lane, warp;

  template <class T, class Op>
  T reduce(T value, threadgroup T* slots, Op op) const {
    return block_reduce(value, slots, op, lane, warp, static_cast<uint>(threads) / kWarp);
  }
  U64 lowest(U64 key) const { return reduce(key, shared->slots, Lower()); }
  float scaled(int v) const { return logits[v] / p.temperature; }

  // The most probable token whose key is above `after`; kNoKey if there is none.
  U64 best_after(U64 after, bool first) const {
    U64 best = kNoKey;
    for (int v = thread_index; v < vocab; v += threads) {
      const U64 key = sort_key(logits[v], static_cast<uint32_t>(v));
      if (key < best && (first || key > after)) best = key;
    }
    return lowest(best);
  }

  // The most probable token, or -1 where a logit is not a number or the largest not finite.
  int best() const {
    U64 good = 1;
    for (int v = thread_index; v < vocab; v += threads)
      if (logits[v] != logits[v]) good = 0;
    if (lowest(good) == 0) return -1;
    const int token = static_cast<int>(static_cast<uint32_t>(best_after(0, true)));
    return fabsf(logits[token]) < INFINITY ? token : -1;
  }

  // largest + log(sum of exp(logit - largest))
  Pair log_sum(float largest) const {
    Pair sum = {0.0f, 0.0f};
    for (int v = thread_index; v < vocab; v += threads)
      sum = add_any(sum, exp_pair(two_sum(logits[v], -largest)));
    sum = reduce(sum, reinterpret_cast<threadgroup Pair*>(shared->slots), AddPairs());
    const Pair total = add_any(log_pair(sum), largest);
    // Of logits as large as floats get a float64 keeps no more than the largest: neither does this.
    return {total.hi, fabsf(total.lo) < fabsf(total.hi) * 1.1102230e-16f ? 0.0f : total.lo};  // 2^-53
  }

  void top(int count, Pair log_sum, device int32_t* token, device float* logprob) const {
    U64 key = 0;
    for (int i = 0; i < min(count, vocab); ++i) {
      key = best_after(key, i == 0);
      if (thread_index != 0) continue;
      token[i] = static_cast<int32_t>(static_cast<uint32_t>(key));
      logprob[i] = difference(logits[token[i]], log_sum);
    }
  }
  static float difference(float logit, Pair log_sum) {
    const float plain = logit - log_sum.hi;
    if (!(fabsf(plain) < INFINITY)) return plain;  // an infinity has no rest
    const Pair d = add_any(Pair{-log_sum.hi, -log_sum.lo}, logit);
    return d.hi + d.lo;
  }

  void edit(device TokenEdit* edits, device const uint32_t* mask) const {
    sync_block();  // all have read the logits as the model gave them
    for (int i = p.first_edit + thread_index; i < p.last_edit; i += threads) {
      const int token = edits[i].token;  // at most one edit per token
      const float logit = logits[token];
      edits[i].original = logit;
      logits[token] = sampling::edited(logit, edits[i], p);
    }
    sync_block();  // edits are written, by threads that need not be those that mask
    if (!mask) return;
    for (int v = thread_index; v < vocab; v += threads)
      if (!(mask[v / 32] >> (v % 32) & 1)) logits[v] = -INFINITY;
    sync_block();  // the mask is on
  }

  // The logit as the model gave it, of a token that the mask allows.
  float original(int token, device const TokenEdit* edits) const {
    if (thread_index == 0) shared->original = logits[token];
    sync_block();  // before the one edit of this token, if there is one
    for (int i = p.first_edit + thread_index; i < p.last_edit; i += threads)
      if (edits[i].token == token) shared->original = edits[i].original;
    sync_block();  // it is there
    return shared->original;
  }

  // The weight of token v, 0 if it is no candidate.
  U64 weight(Candidates c, int v, thread U64& key) const {
    const float x = scaled(v);
    key = sort_key(x, static_cast<uint32_t>(v));
    if (key > c.end) return 0;
    const U64 mass = sampling::mass(x, c.scaled_max);
    if (mass < c.least) return 0;
    return c.by_mass ? mass : 1;
  }

  U64 total(Candidates c) const {
    U64 sum = 0, key = 0;
    for (int v = thread_index; v < vocab; v += threads) sum += weight(c, v, key);
    return reduce(sum, shared->slots, Sum());
  }

  // A sum of 64 bits out of two atomic ones of 32: whoever's addition wraps the low one carries.
  void add_to_bin(int bin, U64 w) const {
    const uint low = static_cast<uint>(w);
    const uint before = atomic_fetch_add_explicit(
        reinterpret_cast<threadgroup atomic_uint*>(&shared->low[bin]), low, memory_order_relaxed);
    const uint carry = before + low < low ? 1 : 0, high = static_cast<uint>(w >> 32) + carry;
    if (high != 0)
      atomic_fetch_add_explicit(reinterpret_cast<threadgroup atomic_uint*>(&shared->high[bin]), high,
                                memory_order_relaxed);
  }
  U64 in_bin(int bin) const { return static_cast<U64>(shared->high[bin]) << 32 | shared->low[bin]; }

  // The last candidate whose predecessors weigh less than `limit`, which is at least 1: digit by digit.
  U64 last_before(Candidates c, U64 limit) const {
    U64 prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
      for (int bin = thread_index; bin < kBins; bin += threads) shared->low[bin] = 0, shared->high[bin] = 0;
      sync_block();  // the bins are empty
      for (int v = thread_index; v < vocab; v += threads) {
        U64 key;
        const U64 w = weight(c, v, key);
        const bool in = shift == 56 || key >> (shift + 8) == prefix >> (shift + 8);
        if (w > 0 && in) add_to_bin(key >> shift & (kBins - 1), w);
      }
      sync_block();  // the bins are full
      if (thread_index == 0) {
        U64 before = 0, chosen = 0, before_chosen = 0;
        for (int bin = 0; bin < kBins && before < limit; ++bin) {
          if (in_bin(bin) == 0) continue;
          chosen = bin;
          before_chosen = before;
          before += in_bin(bin);
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

  Candidates candidates(float scaled_max) const {
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

  int draw(int most_probable, uint32_t position) const {
    const float scaled_max = scaled(most_probable);
    if (p.temperature < sampling::kGreedyBelow || !(fabsf(scaled_max) < INFINITY)) return most_probable;
    const Candidates c = candidates(scaled_max);
    const bool all = p.min_p <= 0 && p.top_k <= 0 && p.top_p >= 1;
    const uint32_t hash = sampling::hash_draw(p.seed[0], p.seed[1], p.index, position);
    U64 best = kNoKey;
    for (int v = thread_index; v < vocab; v += threads) {
      U64 key;
      if (logits[v] == -INFINITY || (!all && weight(c, v, key) == 0)) continue;
      const float value = scaled(v) + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v)));
      const U64 drawn = sort_key(value, static_cast<uint32_t>(v));
      best = drawn < best ? drawn : best;
    }
    return static_cast<int>(static_cast<uint32_t>(lowest(best)));
  }
};

[[max_total_threads_per_threadgroup(1024)]]
kernel void sample(constant SampleArgs& a [[buffer(0)]], threadgroup SampleShared* shared [[threadgroup(0)]],
                   GPTOSS_PLACE, GPTOSS_STRIDES) {
  const int i = static_cast<int>(block.x);
  if (i >= a.live->samples) return;  // the whole block
  const SampleParams p = a.sampling[i];
  const Draw row = {a.logits + static_cast<size_t>(p.row) * a.vocab,
                    a.vocab,
                    p,
                    shared,
                    static_cast<int>(thread_index),
                    static_cast<int>(block_extent.x),
                    lane,
                    warp};
  const bool writes = thread_index == 0;

  int best = row.best();
  if (best < 0) {
    if (writes) a.next_token[i] = -1;  // kNotFinite
    return;
  }
  Pair log_sum = {0.0f, 0.0f};
  if (p.logprobs >= 0) log_sum = row.log_sum(row.logits[best]);
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
  if (writes) a.logprob[i] = Draw::difference(original, log_sum);
}
