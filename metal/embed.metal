// residual (tokens, hidden_size) = embed_tokens[token]; cos, sin (tokens, head_dim / 2) of position * inv_freq
//
// A warp per token, four tokens to a block.
// Bound by latency: hidden_size * 6 bytes a token (17 KB of the 20b), and head_dim cosines.
// No sums, no sharing.
// Tested by test_metal.py. Reads as csrc/simt/embed.cuh, but for the cosines, which are float64 there.
#include "dot.h"

using namespace gptoss;

kernel void embed(constant EmbedArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int token = global_warp(block, warp);
  if (token >= a.live->tokens) return;
  device const uint16_t* row = a.embed_tokens + static_cast<size_t>(a.token[token]) * a.hidden_size;
  device float* x = a.residual + static_cast<size_t>(token) * a.hidden_size;
  for (int i = lane; i < a.hidden_size; i += kWarp) x[i] = bf16_to_float(row[i]);

  const float position = static_cast<float>(a.position[token]);
  for (int j = lane; j < a.half_dim; j += kWarp) {
    // The product is rounded to float32, as in every reference. Of its cosine and sine the precise variants promise
    // all but the last bits also for angles of 1e5; the fast ones do not.
    const float angle = position * a.inv_freq[j];
    a.rope_cos[static_cast<size_t>(token) * a.half_dim + j] = precise::cos(angle) * a.concentration;
    a.rope_sin[static_cast<size_t>(token) * a.half_dim + j] = precise::sin(angle) * a.concentration;
  }
}
