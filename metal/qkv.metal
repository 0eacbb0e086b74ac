// q = rope(q), in place; key page = rope(k), value page = v; of qkv (tokens, heads + 2 kv_heads, head_dim)
//
// A warp per token and head, a lane per pair (j, j + head_dim / 2); four warps to a block.
// Bound by latency: 4 bytes read and 2 or 4 written for each element (20 KB a token of the 20b).
// No sums; every element has one writer.
// Tested by test_metal.py. Reads as csrc/simt/qkv.cuh.
#include "dot.h"
#include "kv.h"

using namespace gptoss;

// Pair j of a token's head, as the product gave it.
template <class Kv>
inline void rotate_append_pair(constant AppendArgs& a, int token, int head, int j, float first,
                               float second) {
  const int all_heads = a.heads + 2 * a.kv_heads, half_dim = a.head_dim / 2, position = a.position[token];
  const int slot = position % kPageSlots;
  const bool is_query = head < a.heads, is_value = head >= a.heads + a.kv_heads;
  if (!is_value) {
    const float c = a.rope_cos[static_cast<size_t>(token) * half_dim + j];
    const float s = a.rope_sin[static_cast<size_t>(token) * half_dim + j];
    const float turned = first * c - second * s;
    second = second * c + first * s;
    first = turned;
  }
  if (is_query) {
    device float* x = a.qkv + (static_cast<size_t>(token) * all_heads + head) * a.head_dim;
    x[j] = a.round_q ? round_to_bf16(first) : first;
    x[j + half_dim] = a.round_q ? round_to_bf16(second) : second;
    return;
  }
  const PageHead<Kv> page = page_head<Kv>(a.kv, a.sequence[token], position / kPageSlots,
                                          (head - a.heads) % a.kv_heads, a.head_dim);
  if (is_value) {
    store(page.values + slot * a.head_dim + j, first);
    store(page.values + slot * a.head_dim + j + half_dim, second);
  } else {
    store(page.keys + j * kPageSlots + slot, first);
    store(page.keys + (j + half_dim) * kPageSlots + slot, second);
  }
}

template <class Kv>
kernel void rotate_append(constant AppendArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int all_heads = a.heads + 2 * a.kv_heads, half_dim = a.head_dim / 2;
  const int token = global_warp(block, warp) / all_heads, head = global_warp(block, warp) % all_heads;
  if (token >= a.live->tokens) return;
  device const float* x = a.qkv + (static_cast<size_t>(token) * all_heads + head) * a.head_dim;
  for (int j = lane; j < half_dim; j += kWarp)
    rotate_append_pair<Kv>(a, token, head, j, x[j], x[j + half_dim]);
}

typedef decltype(rotate_append<float>) RotateAppend;
template [[host_name("rotate_append_f32")]] kernel RotateAppend rotate_append<float>;
template [[host_name("rotate_append_bf16")]] kernel RotateAppend rotate_append<uint16_t>;
