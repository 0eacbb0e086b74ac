// residual (tokens, hidden_size) = embed_tokens[token]; cos, sin (tokens, head_dim / 2) of position * inv_freq
//
// A thread per element, and per cosine and sine in a row's first threads.
// Bound by latency: hidden_size * 6 bytes a token (17 KB of the 20b), and head_dim cosines.
// No sums, no sharing.
// Tested by test_metal.py. Reads as csrc/simt/embed.cuh, but for the cosines, which are float64 there.
#include "block.h"

using namespace gptoss;

kernel void embed(constant EmbedArgs& a [[buffer(0)]], GPTOSS_PLACE, GPTOSS_STRIDES) {
  const int token = block.x, i = element(block, thread_index, block_extent);
  if (token >= a.live->tokens) return;
  if (i < a.hidden_size)
    a.residual[static_cast<size_t>(token) * a.hidden_size + i] =
        bf16_to_float(a.embed_tokens[static_cast<size_t>(embedded_token(a.token[token], a.drawn)) * a.hidden_size + i]);
  if (block.y != 0) return;
  const float position = static_cast<float>(a.position[token]);
  for (int j = i; j < a.half_dim; j += block_extent.x) {
    // The product is rounded to float32, as in every reference. Of its cosine and sine the precise variants promise
    // all but the last bits also for angles of 1e5; the fast ones do not.
    const float angle = position * a.inv_freq[j];
    a.rope_cos[static_cast<size_t>(token) * a.half_dim + j] = precise::cos(angle) * a.concentration;
    a.rope_sin[static_cast<size_t>(token) * a.half_dim + j] = precise::sin(angle) * a.concentration;
  }
}
