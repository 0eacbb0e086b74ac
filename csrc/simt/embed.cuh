// residual (tokens, hidden_size) = embed_tokens[token]; cos, sin (tokens, head_dim / 2) of position * inv_freq
//
// A warp per token, four tokens to a block.
// Bound by latency: hidden_size * 6 bytes a token (17 KB of the 20b), and head_dim float64 cosines.
// No sums, no sharing.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "dot.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kBlockThreads) embed(EmbedArgs a) {
  wait_for_predecessors();
  const int token = global_warp();
  if (token >= a.live->tokens) return;
  const uint16_t* row = a.embed_tokens + static_cast<size_t>(a.token[token]) * a.hidden_size;
  float* x = a.residual + static_cast<size_t>(token) * a.hidden_size;
  for (int i = lane(); i < a.hidden_size; i += kWarp) x[i] = bf16_to_float(row[i]);

  const float position = static_cast<float>(a.position[token]);
  for (int j = lane(); j < a.half_dim; j += kWarp) {
    // The product is rounded to float32, as in every reference; its cosine and sine are not.
    const double angle = position * a.inv_freq[j];
    a.rope_cos[static_cast<size_t>(token) * a.half_dim + j] = static_cast<float>(cos(angle) * a.concentration);
    a.rope_sin[static_cast<size_t>(token) * a.half_dim + j] = static_cast<float>(sin(angle) * a.concentration);
  }
}

}  // namespace gptoss::simt
