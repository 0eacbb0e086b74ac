// embed, unembed: what stands before the first and after the last layer.
#include <algorithm>
#include <cmath>

#include "../numeric.h"
#include "backend.h"
#include "products.h"

namespace gptoss::cpu {
namespace {

// Runs of consecutive tokens of one sequence, cut to tile_tokens.
void find_tiles(CpuState& s, int tokens) {
  s.tile_count = 0;
  for (int t = 0; t < tokens; ++t) {
    const bool same = t > 0 && s.sequence[t] == s.sequence[t - 1] && s.position[t] == s.position[t - 1] + 1;
    if (same && s.tiles[s.tile_count - 1].count < s.tile_tokens)
      ++s.tiles[s.tile_count - 1].count;
    else
      s.tiles[s.tile_count++] = {t, 1};
  }
}

// The last layer's queries, products and experts are for the rows of logits only, where those are few.
void find_wanted(CpuState& s, const Batch& batch) {
  s.narrow = batch.rows_only && 4 * batch.rows <= batch.tokens;
  if (!s.narrow) return;
  std::copy_n(s.row, batch.rows, s.wanted);
  std::sort(s.wanted, s.wanted + batch.rows);
  s.wanted_count = static_cast<int>(std::unique(s.wanted, s.wanted + batch.rows) - s.wanted);
  for (int i = 0; i < s.wanted_count; ++i) s.wanted_tiles[i] = {s.wanted[i], 1};
}

}  // namespace

void CpuBackend::embed(State& state, const Ends& base, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  const auto& ends = static_cast<const CpuEnds&>(base);
  const int hidden = s.config.hidden_size, half = s.config.head_dim / 2;
  find_tiles(s, batch.tokens);
  find_wanted(s, batch);
  parallel(batch.tokens, [&](int t, int) {
    const uint16_t* row = ends.embed_tokens + static_cast<size_t>(s.token[t]) * hidden;
    float* x = s.residual + static_cast<size_t>(t) * hidden;
    for (int i = 0; i < hidden; ++i) x[i] = bf16_to_float(row[i]);
    for (int j = 0; j < half; ++j) {
      // The product is rounded to float32, as in every reference; its cosine and sine are not.
      const double angle = static_cast<float>(s.position[t]) * s.rope.inv_freq[j];
      s.rope_cos[static_cast<size_t>(t) * half + j] = static_cast<float>(std::cos(angle) * s.rope.concentration);
      s.rope_sin[static_cast<size_t>(t) * half + j] = static_cast<float>(std::sin(angle) * s.rope.concentration);
    }
  });
}

void CpuBackend::unembed(State& state, const Ends& base, const Batch& batch) {
  auto& s = static_cast<CpuState&>(state);
  const auto& ends = static_cast<const CpuEnds&>(base);
  norm(s, ends.norm, {s.row, batch.rows});
  Product product{&ends.lm_head, s.packed_rows, batch.rows};
  products(s, &product, 1, [&](const Block& b) {
    for (int t = 0; t < b.tokens; ++t)
      std::copy_n(b.y + t * kTaskRows, b.rows, s.logits + static_cast<size_t>(b.token + t) * s.config.vocab_size + b.row);
  });
  if (pool_.stopped()) throw Interrupted();
}

}  // namespace gptoss::cpu
