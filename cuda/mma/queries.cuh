// What the attention kernels of mma.sync and of wgmma have in common: which keys a token sees, where its queries are, and what
// becomes of its sums.
//
// Tested by mma_attention_test.cpp and wgmma_attention_test.cpp.
#pragma once

#include "ptx/bits.cuh"
#include "simt/kv.cuh"
#include "simt/operand.cuh"

namespace gptoss::cuda {

constexpr int kHeadDim = 64, kPage = kPageSlots;
constexpr int kMatrixBytes = kHeadDim * kPage * 2, kPageBytes = 2 * kMatrixBytes;  // of keys or values; of both
constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
static_assert(kHeadDim == kPage, "rows of keys and of values have eight units of 16 bytes");

// Which keys a token sees, [first, end), and the pages that they are in.
struct Visible {
  int first, end;
  GPTOSS_DEVICE Visible(int position, int window) : first(window > 0 ? max(0, position - window + 1) : 0), end(position + 1) {}
  GPTOSS_DEVICE int first_page() const { return first / kPage; }
  GPTOSS_DEVICE int end_page() const { return (end - 1) / kPage + 1; }
};

// Queries of consecutive tokens as columns or rows of a product: number c is head c % group of token c / group; those beyond
// `live` tokens repeat the last one.
GPTOSS_DEVICE const float* query(const AttentionArgs& a, int first_token, int live, int kv_head, int c) {
  const int group = a.heads / a.kv_heads, token = first_token + min(c / group, live - 1);
  return a.qkv + (static_cast<size_t>(token) * (a.heads + 2 * a.kv_heads) + kv_head * group + c % group) * kHeadDim;
}

// A softmax over all keys: the sink is one more logit without a value. m: the largest score times log2 e; l: the sum of
// powers of two.
struct Total {
  float highest, keep, sum;
  GPTOSS_DEVICE Total(const AttentionArgs& a, int head, float m, float l) {
    const float sink = a.sinks[head] * kLog2E;
    highest = fmaxf(m, sink), keep = exp2f(m - highest);
    sum = l * keep + exp2f(sink - highest);
  }
  GPTOSS_DEVICE float lse() const { return (highest + log2f(sum)) * kLn2; }
  GPTOSS_DEVICE float operator()(float value) const { return value * keep / sum; }
};

// The result, and what the next product multiplies.
GPTOSS_DEVICE void store_attn(const AttentionArgs& a, size_t at, float value) {
  a.attn[at] = value;
  if (a.terms) a.terms[a.stepped ? simt::stepped_place(at) : at] = simt::float_to_bf16(value);
}
// The same of two neighbours, of which the first has an even place: stepped or not, they stay neighbours.
GPTOSS_DEVICE void store_attn(const AttentionArgs& a, size_t at, float even, float odd) {
  *reinterpret_cast<float2*>(a.attn + at) = float2{even, odd};
  if (a.terms) *reinterpret_cast<uint32_t*>(a.terms + (a.stepped ? simt::stepped_place(at) : at)) = ptx::cvt_bf16x2(even, odd);
}

}  // namespace gptoss::cuda
