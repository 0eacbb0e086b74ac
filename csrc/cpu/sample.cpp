// sample: see ../sampling.h for what is drawn.
#include <algorithm>
#include <bit>
#include <cmath>

#include "backend.h"

namespace gptoss::cpu {
namespace {

// At least gumbel(hash): -log(-log(1 - w)) <= -log(w), and w >= 2^-(1 + leading zeros); rounded up by more than rounding costs.
float gumbel_at_most(uint32_t hash) { return 0.6932f * static_cast<float>(std::countl_zero(hash) + 1); }

constexpr int kMassBins = 512, kBinsPerUnit = 16;  // of scaled logits, from the most probable one's on down: 32 of them

using sampling::sort_key;

// One draw: a row of logits, which it may change, and room for a key per token.
struct Draw {
  float* logits;
  int vocab;
  const SampleParams& p;
  uint64_t* keys;

  float scaled(uint32_t v) const { return logits[v] / p.temperature; }

  // The most probable token; a DrawError.
  int32_t best() const {
    int32_t highest = 0;
    bool number = true;
    for (int v = 0; v < vocab; ++v) {
      number = number && logits[v] == logits[v];
      if (logits[v] > logits[highest]) highest = v;
    }
    return number && std::isfinite(logits[highest]) ? highest : kNotFinite;
  }

  // Natural logarithms of the softmax of the logits as the model gave them.
  double log_sum(float largest) const {
    double sum = 0;
    for (int v = 0; v < vocab; ++v) sum += std::exp(static_cast<double>(logits[v]) - largest);
    return largest + std::log(sum);
  }

  void top(int count, double log_sum, int32_t* token, float* logprob) const {
    for (int v = 0; v < vocab; ++v) keys[v] = sort_key(logits[v], static_cast<uint32_t>(v));
    count = std::min(count, vocab);
    std::partial_sort(keys, keys + count, keys + vocab);
    for (int i = 0; i < count; ++i) {
      token[i] = static_cast<int32_t>(static_cast<uint32_t>(keys[i]));
      logprob[i] = static_cast<float>(logits[token[i]] - log_sum);
    }
  }

  void edit(TokenEdit* edits, const uint32_t* mask) const {
    for (int i = p.first_edit; i < p.last_edit; ++i) {
      float& logit = logits[edits[i].token];
      edits[i].original = logit;
      logit = sampling::edited(logit, edits[i], p);
    }
    if (!mask) return;
    for (int v = 0; v < vocab; ++v)
      if (!(mask[v / 32] >> (v % 32) & 1)) logits[v] = -INFINITY;
  }

  // The logit as the model gave it, of a token that the mask allows.
  float original(int32_t token, const TokenEdit* edits) const {
    for (int i = p.first_edit; i < p.last_edit; ++i)
      if (edits[i].token == token) return edits[i].original;
    return logits[token];
  }

  uint64_t mass_of(uint64_t key, float scaled_max) const {
    return sampling::mass(scaled(static_cast<uint32_t>(key)), scaled_max);
  }

  // The last of the keys [first, last) whose tokens before it weigh less than `limit`: halves the candidates around their
  // median until the limit falls on one.
  uint64_t nucleus_end(uint64_t* first, uint64_t* last, float scaled_max, uint64_t limit) const {
    while (last - first > 1) {
      uint64_t* middle = first + (last - first) / 2;
      std::nth_element(first, middle, last);
      uint64_t mass = 0;
      for (uint64_t* key = first; key < middle; ++key) mass += mass_of(*key, scaled_max);
      if (mass < limit) {  // the token at `middle` is still in
        limit -= mass;
        first = middle;
      } else {
        last = middle;
      }
    }
    return *first;
  }

  // The same of all `count` keys: bins of like logits tell near which one the limit falls, and only its bin is sorted. Bins
  // follow the order of the keys, and masses are integers, so that nothing else changes.
  uint64_t nucleus(int count, float scaled_max, float top_p) const {
    uint64_t mass[kMassBins] = {}, total = 0;
    const auto bin_of = [&](uint64_t key) {
      const float below = (scaled_max - scaled(static_cast<uint32_t>(key))) * kBinsPerUnit;
      return below < kMassBins - 1 ? static_cast<int>(below) : kMassBins - 1;  // what is not a number weighs nothing
    };
    for (uint64_t* key = keys; key < keys + count; ++key) {
      const uint64_t own = mass_of(*key, scaled_max);
      mass[bin_of(*key)] += own;
      total += own;
    }
    uint64_t limit = sampling::nucleus_limit(total, top_p);
    int bin = 0;
    while (bin < kMassBins - 1 && mass[bin] < limit) limit -= mass[bin++];
    uint64_t* const last = std::partition(keys, keys + count, [&](uint64_t key) { return bin_of(key) == bin; });
    return nucleus_end(keys, last, scaled_max, limit);
  }

  // The last key that min_p, top_k and top_p keep.
  uint64_t last_allowed(float scaled_max) const {
    if (p.min_p <= 0 && p.top_k <= 0 && p.top_p >= 1) return ~0ull;
    const uint64_t least = std::max<uint64_t>(sampling::least_mass(p.min_p), p.top_p < 1 ? 1 : 0);
    int count = 0;
    for (int v = 0; v < vocab; ++v) {
      const float x = scaled(static_cast<uint32_t>(v));
      if (sampling::mass(x, scaled_max) >= least) keys[count++] = sort_key(x, static_cast<uint32_t>(v));
    }
    if (p.top_k > 0 && p.top_k < count) {
      std::nth_element(keys, keys + p.top_k, keys + count);
      count = p.top_k;
    }
    return p.top_p >= 1 ? *std::max_element(keys, keys + count) : nucleus(count, scaled_max, p.top_p);
  }

  int32_t draw(int32_t most_probable, uint32_t position) const {
    const float scaled_max = scaled(static_cast<uint32_t>(most_probable));
    if (p.temperature < sampling::kGreedyBelow || !std::isfinite(scaled_max)) return most_probable;
    const uint64_t least = sampling::least_mass(p.min_p);
    const uint64_t end = last_allowed(scaled_max);
    const uint32_t hash = sampling::hash_draw(p.seed[0], p.seed[1], p.index, position);
    const auto hash_of = [hash](int v) { return sampling::hash_token(hash, static_cast<uint32_t>(v)); };
    // What the most probable token reaches others have to reach; a temperature can make it one of several, and not the first.
    const bool kept = sort_key(scaled_max, static_cast<uint32_t>(most_probable)) <= end;
    const float least_value = kept ? scaled_max + sampling::gumbel(hash_of(most_probable)) : -INFINITY;
    int32_t drawn = most_probable;
    float highest = -INFINITY;
    for (int v = 0; v < vocab; ++v) {
      const float x = scaled(static_cast<uint32_t>(v));
      if (x + gumbel_at_most(hash_of(v)) < std::max(highest, least_value)) continue;
      if (sort_key(x, static_cast<uint32_t>(v)) > end) continue;
      // exp_exact falls by a unit here and there where x grows: the last key alone does not say what min_p keeps.
      if (least > 0 && sampling::mass(x, scaled_max) < least) continue;
      const float value = x + sampling::gumbel(hash_of(v));
      if (value > highest) {
        highest = value;
        drawn = v;
      }
    }
    return drawn;
  }
};

}  // namespace

void CpuBackend::sample(State& state, const Ends&, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  parallel(batch.samples, [&](int i, int worker) {
    const SampleParams& p = s.sampling[i];
    const Draw row{s.logits + static_cast<size_t>(p.row) * s.config.vocab_size, s.config.vocab_size, p, s.scratch[worker].sort};
    int32_t best = row.best();
    s.next_token[i] = best;
    if (best < 0) return;
    const double log_sum = p.logprobs >= 0 ? row.log_sum(row.logits[best]) : 0;
    if (p.logprobs > 0)
      row.top(std::min(p.logprobs, kMaxLogprobs), log_sum, s.top_token + i * kMaxLogprobs, s.top_logprob + i * kMaxLogprobs);
    if (p.first_edit < p.last_edit || p.mask >= 0) {
      row.edit(s.edits, p.mask >= 0 ? s.masks + p.mask * s.mask_words : nullptr);
      best = row.best();
      if (best < 0) {
        s.next_token[i] = kNothingAllowed;
        return;
      }
    }
    const uint32_t position = static_cast<uint32_t>(s.position[s.row[p.row]]) + 1;
    const int32_t drawn = s.next_token[i] = row.draw(best, position);
    if (p.logprobs >= 0) s.logprob[i] = static_cast<float>(row.original(drawn, s.edits) - log_sum);
  });
}

}  // namespace gptoss::cpu
