// sample: the definition in csrc/sampling.h, step by step and in its order, on sorted lists.
#include <algorithm>
#include <cmath>

#include "sampling.h"
#include "stages.h"

namespace reference {
namespace {

namespace sampling = gptoss::sampling;

// The most probable token, lowest id on ties; -1 if there is no finite largest logit, or one is not a number.
int32_t argmax(const float* logits, int vocab) {
  int32_t best = 0;
  for (int v = 0; v < vocab; ++v) {
    if (std::isnan(logits[v])) return -1;
    if (logits[v] > logits[best]) best = v;
  }
  return std::isfinite(logits[best]) ? best : -1;
}

// All tokens, most probable first, lowest id on ties.
template <class Value>
void sort_tokens(std::vector<int32_t>& order, int vocab, const Value& value) {
  order.resize(static_cast<size_t>(vocab));
  for (int v = 0; v < vocab; ++v) order[v] = v;
  std::sort(order.begin(), order.end(),
            [&](int a, int b) { return value(a) != value(b) ? value(a) > value(b) : a < b; });
}

int32_t draw(const float* logits, int vocab, int32_t best, const gptoss::SampleParams& p, uint32_t position,
             std::vector<int32_t>& order) {
  const auto scaled = [&](int v) { return logits[v] / p.temperature; };
  if (p.temperature < sampling::kGreedyBelow || !std::isfinite(scaled(best))) return best;
  const auto mass = [&](int v) { return sampling::mass(scaled(v), scaled(best)); };
  sort_tokens(order, vocab, scaled);

  const auto improbable = [&](int v) { return mass(v) < sampling::least_mass(p.min_p); };
  order.erase(std::remove_if(order.begin(), order.end(), improbable), order.end());
  if (p.top_k > 0 && static_cast<size_t>(p.top_k) < order.size()) order.resize(static_cast<size_t>(p.top_k));
  if (p.top_p < 1) {
    uint64_t total = 0, before = 0;
    for (int32_t v : order) total += mass(v);
    const uint64_t limit = sampling::nucleus_limit(total, p.top_p);
    size_t kept = 0;
    for (; kept < order.size() && before < limit; ++kept) before += mass(order[kept]);
    order.resize(kept);
  }

  const uint32_t hash = sampling::hash_draw(p.seed[0], p.seed[1], p.index, position);
  int32_t drawn = -1;
  float highest = -INFINITY;
  for (int32_t v : order) {
    const float value = scaled(v) + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v)));
    if (value > highest || (value == highest && v < drawn)) {
      highest = value;
      drawn = v;
    }
  }
  return drawn;
}

// Of sample i, from the logits as the model gave them.
void write_logprobs(State& s, int i, const gptoss::SampleParams& p) {
  const std::vector<float>& logits = s.model_logits;
  const int vocab = s.config.vocab_size;
  sort_tokens(s.order, vocab, [&](int v) { return logits[v]; });
  double sum = 0;
  for (float logit : logits) sum += std::exp(static_cast<double>(logit) - logits[s.order[0]]);
  const double log_sum = logits[s.order[0]] + std::log(sum);
  const auto logprob = [&](int v) { return static_cast<float>(logits[v] - log_sum); };
  s.logprob[i] = logprob(s.next_token[i]);
  for (int rank = 0; rank < std::min({p.logprobs, gptoss::kMaxLogprobs, vocab}); ++rank) {
    s.top_token[i * gptoss::kMaxLogprobs + rank] = s.order[rank];
    s.top_logprob[i * gptoss::kMaxLogprobs + rank] = logprob(s.order[rank]);
  }
}

}  // namespace

// The token drawn stands one position after the one whose logits these are.
void sample(State& s, const Ends&, const gptoss::Batch& batch) {
  const int vocab = s.config.vocab_size;
  for (int i = 0; i < batch.samples; ++i) {
    s.ask();
    const gptoss::SampleParams& p = s.sampling[i];
    float* logits = &s.logits[static_cast<size_t>(p.row) * vocab];
    std::copy_n(logits, vocab, s.model_logits.begin());
    s.next_token[i] = gptoss::kNotFinite;
    if (argmax(logits, vocab) < 0) continue;

    for (int e = p.first_edit; e < p.last_edit; ++e) {
      const gptoss::TokenEdit& edit = s.edit[e];
      logits[edit.token] = sampling::edited(logits[edit.token], edit, p);
    }
    const uint32_t* mask = p.mask >= 0 ? &s.mask[p.mask * mask_words(s.config)] : nullptr;
    for (int v = 0; mask && v < vocab; ++v)
      if ((mask[v / 32] >> (v % 32) & 1) == 0) logits[v] = -INFINITY;
    s.next_token[i] = gptoss::kNothingAllowed;
    const int32_t best = argmax(logits, vocab);
    if (best < 0) continue;

    const uint32_t position = static_cast<uint32_t>(s.position[s.row[p.row]]) + 1;
    s.next_token[i] = draw(logits, vocab, best, p, position, s.order);
    if (p.logprobs >= 0) write_logprobs(s, i, p);
  }
}

}  // namespace reference
