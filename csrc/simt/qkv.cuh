// q = rope(q), in place; key page = rope(k), value page = v; of qkv (tokens, heads + 2 kv_heads, head_dim)
//
// A warp per token and head, a lane per pair (j, j + head_dim / 2); four warps to a block.
// Bound by latency: 4 bytes read and 2 or 4 written for each element (20 KB a token of the 20b).
// No sums; every element has one writer.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "dot.cuh"
#include "kv.cuh"

namespace gptoss::simt {

// Pair j of a token's head, as the product gave it.
template <class Kv>
GPTOSS_DEVICE void rotate_append_pair(const AppendArgs& a, int token, int head, int j, float first, float second) {
  const int all_heads = a.heads + 2 * a.kv_heads, half = a.head_dim / 2, position = a.position[token];
  const int slot = position % kPageSlots;
  const bool is_query = head < a.heads, is_value = head >= a.heads + a.kv_heads;
  if (!is_value) {
    const float c = a.rope_cos[static_cast<size_t>(token) * half + j];
    const float s = a.rope_sin[static_cast<size_t>(token) * half + j];
    const float turned = first * c - second * s;
    second = second * c + first * s;
    first = turned;
  }
  if (is_query) {
    float* x = a.qkv + (static_cast<size_t>(token) * all_heads + head) * a.head_dim;
    x[j] = a.round_q ? round_to_bf16(first) : first;
    x[j + half] = a.round_q ? round_to_bf16(second) : second;
    return;
  }
  const PageHead<Kv> page = page_head<Kv>(a.kv, a.sequence[token], position / kPageSlots, (head - a.heads) % a.kv_heads,
                                          a.head_dim);
  if (is_value) {
    store(page.values + slot * a.head_dim + j, first);
    store(page.values + slot * a.head_dim + j + half, second);
  } else {
    store(page.keys + j * kPageSlots + slot, first);
    store(page.keys + (j + half) * kPageSlots + slot, second);
  }
}

template <class Kv>
__global__ void __launch_bounds__(kBlockThreads) rotate_append(AppendArgs a) {
  wait_for_predecessors();
  const int all_heads = a.heads + 2 * a.kv_heads, half = a.head_dim / 2;
  const int token = global_warp() / all_heads, head = global_warp() % all_heads;
  if (token >= a.live->tokens) return;
  const float* x = a.qkv + (static_cast<size_t>(token) * all_heads + head) * a.head_dim;
  for (int j = lane(); j < half; j += kWarp) rotate_append_pair<Kv>(a, token, head, j, x[j], x[j + half]);
}

}  // namespace gptoss::simt
