// sample: see ../sampling.h for what is drawn.
#include <algorithm>
#include <cmath>

#include "backend.h"

namespace gptoss::cpu {
namespace {

constexpr float kLargestGumbel = 23.0f;  // -log(2^-33) = 22.87

// Ascending keys: most probable first, lowest id on ties.
uint64_t sort_key(float scaled, uint32_t token) {
  return static_cast<uint64_t>(~sampling::ordered(scaled)) << 32 | token;
}

uint64_t mass_of(const float* logits, uint64_t key, float temperature, float scaled_max) {
  return sampling::mass(logits[static_cast<uint32_t>(key)] / temperature, scaled_max);
}

// The last key in the nucleus: halves the candidates around their median until the limit falls on one.
uint64_t nucleus_end(const float* logits, uint64_t* keys, int count, float temperature, float scaled_max, uint64_t limit) {
  uint64_t *first = keys, *last = keys + count;
  while (last - first > 1) {
    uint64_t* middle = first + (last - first) / 2;
    std::nth_element(first, middle, last);
    uint64_t mass = 0;
    for (uint64_t* key = first; key < middle; ++key) mass += mass_of(logits, *key, temperature, scaled_max);
    if (mass < limit) {  // the token at `middle` is still in
      limit -= mass;
      first = middle;
    } else {
      last = middle;
    }
  }
  return *first;
}

int32_t draw(const float* logits, int vocab, const SampleParams& p, uint32_t position, uint64_t* keys) {
  int best = 0;
  bool number = true;
  for (int v = 0; v < vocab; ++v) {
    number = number && logits[v] == logits[v];
    if (logits[v] > logits[best]) best = v;
  }
  if (!number || !std::isfinite(logits[best])) return -1;
  if (p.temperature < sampling::kGreedyBelow) return best;

  const float scaled_max = logits[best] / p.temperature;
  const uint32_t hash = sampling::hash_draw(p.seed[0], p.seed[1], p.index, position);
  uint64_t end = ~0ull;
  if (p.top_p < 1.0f) {
    uint64_t total = 0;
    int candidates = 0;
    for (int v = 0; v < vocab; ++v) {
      const float scaled = logits[v] / p.temperature;
      const uint64_t mass = sampling::mass(scaled, scaled_max);
      total += mass;
      if (mass > 0) keys[candidates++] = sort_key(scaled, static_cast<uint32_t>(v));
    }
    end = nucleus_end(logits, keys, candidates, p.temperature, scaled_max, sampling::nucleus_limit(total, p.top_p));
  }

  int32_t drawn = -1;
  float highest = -INFINITY;
  for (int v = 0; v < vocab; ++v) {
    const float scaled = logits[v] / p.temperature;
    if (scaled + kLargestGumbel < highest || sort_key(scaled, static_cast<uint32_t>(v)) > end) continue;
    const float value = scaled + sampling::gumbel(sampling::hash_token(hash, static_cast<uint32_t>(v)));
    if (value > highest) {
      highest = value;
      drawn = v;
    }
  }
  return drawn;
}

}  // namespace

void CpuBackend::sample(State& state, const Ends&, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  parallel(batch.samples, [&](int i, int worker) {
    const SampleParams& p = s.sampling[i];
    const uint32_t position = static_cast<uint32_t>(s.position[s.row[p.row]]) + 1;
    const float* logits = s.logits + static_cast<size_t>(p.row) * s.config.vocab_size;
    s.next_token[i] = draw(logits, s.config.vocab_size, p, position, s.scratch[worker].sort);
  });
}

}  // namespace gptoss::cpu
