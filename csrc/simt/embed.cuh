// residual (tokens, hidden_size) = embed_tokens[token]; cos, sin (tokens, head_dim / 2) of position * inv_freq
//
// A thread per element, and per cosine and sine in a row's first threads.
// Bound by latency: hidden_size * 6 bytes a token (17 KB of the 20b), and head_dim float64 cosines.
// No sums, no sharing.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "../args.h"
#include "block.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kRowThreads) embed(EmbedArgs a) {
  wait_for_predecessors();
  const int token = static_cast<int>(blockIdx.x), i = element();
  if (token >= a.live->tokens) return;
  if (i < a.hidden_size)
    a.residual[static_cast<size_t>(token) * a.hidden_size + i] =
        bf16_to_float(a.embed_tokens[static_cast<size_t>(embedded_token(a.token[token], a.drawn)) * a.hidden_size + i]);
  if (blockIdx.y != 0) return;
  const float position = static_cast<float>(a.position[token]);
  for (int j = i; j < a.half_dim; j += blockDim.x) {
    // The product is rounded to float32, as in every reference; its cosine and sine are not.
    const double angle = position * a.inv_freq[j];
    a.rope_cos[static_cast<size_t>(token) * a.half_dim + j] = static_cast<float>(cos(angle) * a.concentration);
    a.rope_sin[static_cast<size_t>(token) * a.half_dim + j] = static_cast<float>(sin(angle) * a.concentration);
  }
}

}  // namespace gptoss::simt
