// What sampling's kernels know of one sample, and the threadgroups that work on it.
#pragma once

#include "block.h"
#include "pair_exp.h"
#include "sample_shared.h"

namespace gptoss {

using sampling::sort_key;

constant constexpr U64 kNoKey = ~U64(0);
static_assert(sizeof(SampleSlice) == (3 + kSampleTop + 2) * 8, "the host has a float64 where a Pair is");

inline int token_of(U64 key) { return static_cast<int>(static_cast<uint32_t>(key)); }
// The value that a sort key was made of.
inline float value_of(U64 key) { return sampling::unordered(~static_cast<uint32_t>(key >> 32)); }

struct AddPairs {
  Pair operator()(Pair a, Pair b) const { return add_any(a, b); }
};
// value - log_sum
inline float difference(float value, Pair log_sum) {
  const float plain = value - log_sum.hi;
  if (!(fabsf(plain) < INFINITY)) return plain;  // an infinity has no rest
  const Pair d = add_any(Pair{-log_sum.hi, -log_sum.lo}, value);
  return d.hi + d.lo;
}

// A sum of 64 bits out of two atomic ones of 32: whoever's addition wraps the low half carries. `halves`: device or
// threadgroup memory, the low one first.
template <class Counter>
inline void add_atomically(Counter halves, U64 w) {
  const uint low = static_cast<uint>(w);
  const uint before = atomic_fetch_add_explicit(halves, low, memory_order_relaxed);
  const uint carry = before + low < low ? 1 : 0, high = static_cast<uint>(w >> 32) + carry;
  if (high != 0) atomic_fetch_add_explicit(halves + 1, high, memory_order_relaxed);
}

// A thread among those of its threadgroup, and what they find together.
struct Team {
  int index, threads;
  uint lane, warp;
  threadgroup U64* slots;

  template <class T, class Op>
  T reduce(T value, Op op) const {
    return block_reduce(value, reinterpret_cast<threadgroup T*>(slots), op, lane, warp, static_cast<uint>(threads) / kWarp);
  }
  U64 lowest(U64 key) const { return reduce(key, Lower()); }
  bool any(bool value) const { return reduce(value ? 1u : 0u, Sum()) != 0; }
};

// A sample, and what is known of it. All functions that end with the team's result are called by all its threads.
struct Draw {
  constant SampleArgs& a;
  int sample;
  SampleParams p;
  device float* logits;
  int slices;

  Draw(constant SampleArgs& a, int sample)
      : a(a), sample(sample), p(a.sampling[sample]), logits(a.logits + static_cast<size_t>(p.row) * a.vocab),
        slices((a.vocab + kSliceTokens - 1) / kSliceTokens) {}

  device SampleSlice* parts() const { return a.slices + static_cast<size_t>(sample) * slices; }
  device GPTOSS_U64* bins() const { return a.bins + static_cast<size_t>(sample) * kSampleBins; }
  device int32_t* candidates() const { return a.candidates + static_cast<size_t>(sample) * a.vocab; }
  int first(int slice) const { return slice * kSliceTokens; }
  int end(int slice) const { return min((slice + 1) * kSliceTokens, a.vocab); }
  float scaled(int v) const { return logits[v] / p.temperature; }

  // The best token of all slices, as the model gave them or after edits and mask; -1 where a logit is not a number or the
  // largest not finite.
  int best(Team team, bool given) const {
    U64 best = kNoKey;
    bool bad = false;
    for (int s = team.index; s < slices; s += team.threads) {
      const U64 key = given ? parts()[s].given : parts()[s].best;
      best = key < best ? key : best;
      bad = bad || (given ? parts()[s].given_bad : parts()[s].bad) != 0;
    }
    best = team.lowest(best);
    if (team.any(bad)) return -1;
    return sampling::is_finite(value_of(best)) ? token_of(best) : -1;
  }

  bool is_greedy(float scaled_max) const {
    return p.temperature < sampling::kGreedyBelow || !sampling::is_finite(scaled_max);
  }
  bool has_top_k() const { return p.top_k > 0 && p.top_k < a.vocab; }
  bool has_top_p() const { return p.top_p < 1; }
  // The least mass that min_p leaves; top_p looks at no token without mass.
  U64 least() const {
    const U64 least = sampling::least_mass(p.min_p);
    return has_top_p() && least == 0 ? 1 : least;
  }
  // argmax over what is left: a key for each token that competes.
  U64 drawn(uint32_t hash, int v) const {
    return sort_key(scaled(v) + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v))), static_cast<uint32_t>(v));
  }
  uint32_t hash() const {
    return sampling::hash_draw(p.seed[0], p.seed[1], p.index, static_cast<uint32_t>(a.position[a.row[p.row]]) + 1);
  }
};

}  // namespace gptoss
