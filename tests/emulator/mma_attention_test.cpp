// The attention of cuda/mma against float64: windows at the edges of pages, ragged steps of two sequences, splits; and
// planted faults.
#include "gpu_vector.h"
#include "harness.h"
#include "mma/attention.cuh"
#include "planted/mma_attention.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;

constexpr int kDim = 64, kPageTokens = 64;

// Sequences of which each has `history` positions in the cache, and tokens that are the last of them.
struct Case {
  int heads, kv_heads, window, table_pages;
  std::vector<int32_t> position, sequence, pages;
  std::vector<float> q, sinks;       // (tokens, heads, dim)
  std::vector<float> keys, values;   // (sequences, positions, kv_heads, dim): bf16 numbers
  std::vector<uint16_t> cache;       // (pages, kv_heads, keys (dim, 64), values (64, dim)); NaN where nothing was written
  std::vector<double> attn, lse;
  int tokens() const { return static_cast<int>(position.size()); }

  // `ends`: positions of each sequence; `counts`: how many tokens of it are in the step.
  Case(int heads, int kv_heads, int window, const std::vector<int>& ends, const std::vector<int>& counts)
      : heads(heads), kv_heads(kv_heads), window(window), sinks(harness::normal_numbers(heads, 9)) {
    const int longest = *std::max_element(ends.begin(), ends.end()), sequences = static_cast<int>(ends.size());
    table_pages = (longest + kPageTokens - 1) / kPageTokens;
    for (int s = 0; s < sequences; ++s)
      for (int i = 0; i < counts[s]; ++i) position.push_back(ends[s] - counts[s] + i), sequence.push_back(s);
    for (int i = 0; i < sequences * table_pages; ++i) pages.push_back(sequences * table_pages + 3 - i);
    q = rounded(size_t(tokens()) * heads * kDim, 10, 1.5f);
    const size_t row = size_t(kv_heads) * kDim;
    keys = rounded(size_t(sequences) * longest * row, 11, 1.0f), values = rounded(keys.size(), 12, 1.0f);
    cache.assign(size_t(sequences * table_pages + 4) * kv_heads * 2 * kDim * kPageTokens, 0x7fff);
    for (int s = 0; s < sequences; ++s)
      for (int p = 0; p < ends[s]; ++p)
        for (int h = 0; h < kv_heads; ++h)
          for (int d = 0; d < kDim; ++d) {
            const size_t from = (size_t(s) * longest + p) * row + size_t(h) * kDim + d;
            uint16_t* page = &cache[(size_t(pages[s * table_pages + p / kPageTokens]) * kv_heads + h) * 2 * kDim * kPageTokens];
            page[d * kPageTokens + p % kPageTokens] = simt::float_to_bf16(keys[from]);
            page[kDim * kPageTokens + p % kPageTokens * kDim + d] = simt::float_to_bf16(values[from]);
          }
    solve(longest, row);
  }
  static std::vector<float> rounded(size_t count, uint64_t seed, float scale) {
    std::vector<float> x = harness::normal_numbers(count, seed);
    for (float& v : x) v = simt::bf16_to_float(simt::float_to_bf16(v * scale));
    return x;
  }
  void solve(int longest, size_t row) {
    attn.assign(size_t(tokens()) * heads * kDim, 0.0), lse.assign(size_t(tokens()) * heads, 0.0);
    for (int t = 0; t < tokens(); ++t)
      for (int h = 0; h < heads; ++h) {
        const int from = window > 0 ? std::max(0, position[t] - window + 1) : 0;
        const size_t base = size_t(sequence[t]) * longest * row + size_t(h / (heads / kv_heads)) * kDim;
        double largest = sinks[h], total = 0;
        std::vector<double> scores;
        for (int p = from; p <= position[t]; ++p) {
          double score = 0;
          for (int d = 0; d < kDim; ++d) score += double{q[(size_t(t) * heads + h) * kDim + d]} * keys[base + p * row + d];
          scores.push_back(score / 8), largest = std::max(largest, scores.back());
        }
        total = std::exp(sinks[h] - largest);
        double* out = &attn[(size_t(t) * heads + h) * kDim];
        for (size_t i = 0; i < scores.size(); ++i) {
          const double weight = std::exp(scores[i] - largest);
          total += weight;
          for (int d = 0; d < kDim; ++d) out[d] += weight * values[base + (from + i) * row + d];
        }
        for (int d = 0; d < kDim; ++d) out[d] /= total;
        lse[size_t(t) * heads + h] = largest + std::log(total);
      }
  }
};

struct Kernels {
  void (*decode)(MmaAttentionArgs);
  void (*merge)(MmaAttentionArgs);
  void (*prefill)(MmaAttentionArgs);
};
constexpr Kernels kReal{cuda::attn_decode, cuda::attn_merge_splits, cuda::attn_prefill};

double run(const Case& c, bool prefill, const Kernels& kernels) {
  const int tokens = c.tokens(), all_heads = c.heads + 2 * c.kv_heads;
  std::vector<float> qkv(size_t(tokens) * all_heads * kDim, 0.0f);
  for (int t = 0; t < tokens; ++t)
    std::copy_n(&c.q[size_t(t) * c.heads * kDim], size_t(c.heads) * kDim, &qkv[size_t(t) * all_heads * kDim]);
  GpuVector<LiveCounts> live(std::vector<LiveCounts>{{tokens, 0, 0}});
  GpuVector<int32_t> position(c.position), sequence(c.sequence), pages(c.pages);
  GpuVector<float> q(qkv), sinks(c.sinks), attn(c.attn.size()), lse(c.lse.size());
  GpuVector<float> partial(size_t(tokens) * c.heads * cuda::kMostSplits * cuda::kStateFloats);
  GpuVector<uint16_t> cache(c.cache);
  const size_t head_bytes = size_t{2} * kDim * kPageTokens * 2;
  const MmaAttentionArgs args{
      {.live = live.data(), .position = position.data(), .sequence = sequence.data(), .qkv = q.data(), .sinks = sinks.data(),
       .kv = {.layer = reinterpret_cast<uint8_t*>(cache.data()), .page_bytes = head_bytes * c.kv_heads, .head_bytes = head_bytes,
              .pages = pages.data(), .table_pages = c.table_pages},
       .attn = attn.data(), .lse = lse.data(), .terms = nullptr, .partial = nullptr, .splits = 0, .heads = c.heads, .kv_heads = c.kv_heads,
       .head_dim = kDim, .window = c.window, .scale = 0.125f, .round_weights = true},
      partial.data()};
  const dim3 block(cuda::kAttnThreads);
  for (const auto& [kernel, bytes] : {std::pair{kernels.decode, cuda::kDecodeShared}, {kernels.prefill, cuda::kPrefillShared}})
    (void)simt::allow_dynamic_shared(kernel, bytes);
  if (prefill) {
    const unsigned tile = cuda::kPrefillColumns / (c.heads / c.kv_heads);
    (void)simt::launch(kernels.prefill, {.grid = dim3((tokens + 2 + tile) / tile, c.kv_heads), .block = block,
                                         .dynamic_shared = cuda::kPrefillShared}, args);
  } else {
    const unsigned splits = cuda::most_splits(c.table_pages);
    (void)simt::launch(kernels.decode, {.grid = dim3(tokens + 1, c.kv_heads, splits), .block = block,
                                        .dynamic_shared = cuda::kDecodeShared}, args);
    (void)simt::launch(kernels.merge, {.grid = dim3((tokens * c.heads + 3) / 4), .block = block}, args);
  }
  // Weights are rounded to bf16, 2^-9 each at most, against values of size 1; scores are float32 sums.
  return std::max(harness::worst(attn.host(), c.attn, 0x1p-8), harness::worst(lse.host(), c.lse, 2e-5));
}

Case decode_case(int end) { return Case(16, 2, 0, {end, 70}, {1, 1}); }

#define GPTOSS_KERNELS(space) Kernels{gptoss::space::attn_decode, gptoss::space::attn_merge_splits, gptoss::space::attn_prefill}

void planted(const char* name, const std::vector<Kind>& kinds, bool prefill, const Kernels& kernels) {
  static const Case decode = decode_case(300), ragged(8, 1, 0, {90, 75}, {11, 8});
  expect_caught(name, kinds, [=] { return run(prefill ? ragged : decode, prefill, kernels); });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (int end : {1, 64, 65, 300, 600}) {
    const Case c = decode_case(end);
    expect_clean(("decode, " + std::to_string(end) + " keys").c_str(), [&] { return run(c, false, kReal); }, 2);
  }
  for (int end : {127, 128, 129, 192}) {
    const Case c(8, 1, 128, {end}, {2});
    expect_clean(("decode, a window behind " + std::to_string(end) + " keys").c_str(), [&] { return run(c, false, kReal); }, 1);
  }
  {
    const Case c(4, 2, 0, {40, 131}, {3, 2});
    expect_clean("decode, groups of two", [&] { return run(c, false, kReal); }, 1);
  }
  for (int window : {0, 1, 100}) {
    const Case c(8, 1, window, {90, 75}, {11, 8});
    expect_clean("prefill, two sequences in a tile", [&] { return run(c, true, kReal); }, 2);
  }
  {
    const Case c(4, 2, 0, {66}, {66});
    expect_clean("prefill, groups of two", [&] { return run(c, true, kReal); }, 1);
  }
  planted("decode: copies not waited for", {Kind::kInFlight, Kind::kRace}, false, GPTOSS_KERNELS(attn_no_wait));
  planted("decode: other lanes' copies", {Kind::kInFlight, Kind::kRace}, false, GPTOSS_KERNELS(attn_no_warp_barrier));
  planted("decode: states of other warps", {Kind::kRace}, false, GPTOSS_KERNELS(attn_no_state_barrier));
  planted("prefill: a maximum not scaled", {}, true, GPTOSS_KERNELS(attn_no_rescale));
  planted("decode: a transposition forgotten", {}, false, GPTOSS_KERNELS(attn_no_transpose));
  planted("decode: values never written", {}, false, GPTOSS_KERNELS(attn_unwritten_values));
  planted("prefill: one page too many on its way", {Kind::kInFlight, Kind::kRace}, true, GPTOSS_KERNELS(attn_wrong_wait_count));
  planted("prefill: a page overwritten early", {Kind::kInFlight, Kind::kRace}, true, GPTOSS_KERNELS(attn_no_reuse_barrier));
  planted("prefill: a causal mask off by one", {}, true, GPTOSS_KERNELS(attn_wrong_mask));
  planted("prefill: the other sequence's keys", {}, true, GPTOSS_KERNELS(attn_wrong_sequence));
  return harness::finish("mma_attention_test");
}
