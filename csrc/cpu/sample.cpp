// sample: see ../sampling.h for what is drawn.
#include <algorithm>
#include <cmath>

#include "backend.h"

namespace gptoss::cpu {
namespace {

constexpr float kLargestGumbel = 23.0f;  // -log(2^-33) = 22.87

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

  // The last key whose tokens before it weigh less than `limit`: halves the candidates around their median until
  // the limit falls on one.
  uint64_t nucleus_end(int count, float scaled_max, uint64_t limit) const {
    uint64_t *first = keys, *last = keys + count;
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
    if (p.top_p >= 1) return *std::max_element(keys, keys + count);
    uint64_t total = 0;
    for (int i = 0; i < count; ++i) total += mass_of(keys[i], scaled_max);
    return nucleus_end(count, scaled_max, sampling::nucleus_limit(total, p.top_p));
  }

  int32_t draw(int32_t most_probable, uint32_t position) const {
    const float scaled_max = scaled(static_cast<uint32_t>(most_probable));
    if (p.temperature < sampling::kGreedyBelow || !std::isfinite(scaled_max)) return most_probable;
    const uint64_t least = sampling::least_mass(p.min_p);
    const uint64_t end = last_allowed(scaled_max);
    const uint32_t hash = sampling::hash_draw(p.seed[0], p.seed[1], p.index, position);
    int32_t drawn = most_probable;
    float highest = -INFINITY;
    for (int v = 0; v < vocab; ++v) {
      const float x = scaled(static_cast<uint32_t>(v));
      if (x + kLargestGumbel < highest || sort_key(x, static_cast<uint32_t>(v)) > end) continue;
      // exp_exact falls by a unit here and there where x grows: the last key alone does not say what min_p keeps.
      if (least > 0 && sampling::mass(x, scaled_max) < least) continue;
      const float value = x + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v)));
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
    row.edit(s.edits, p.mask >= 0 ? s.masks + p.mask * s.mask_words : nullptr);
    best = row.best();
    if (best < 0) {
      s.next_token[i] = kNothingAllowed;
      return;
    }
    const uint32_t position = static_cast<uint32_t>(s.position[s.row[p.row]]) + 1;
    const int32_t drawn = s.next_token[i] = row.draw(best, position);
    if (p.logprobs >= 0) s.logprob[i] = static_cast<float>(row.original(drawn, s.edits) - log_sum);
  });
}

}  // namespace gptoss::cpu
