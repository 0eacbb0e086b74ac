// The attention of cuda/mma against float64: windows at the edges of pages, ragged steps of two sequences, splits; and
// planted faults.
#include "attention_cases.h"
#include "mma/attention.cuh"
#include "planted/mma_attention.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;
using attention::Case;

struct Kernels {
  void (*decode)(MmaAttentionArgs);
  void (*merge)(MmaAttentionArgs);
  void (*prefill)(MmaAttentionArgs);
};
constexpr Kernels kReal{cuda::attn_decode, cuda::attn_merge_splits, cuda::attn_prefill};

// A decode runs twice, since what merges its splits leaves counters behind; with `merge` that is a kernel of its own.
double run(const Case& c, bool prefill, const Kernels& kernels, bool merge = false) {
  const int tokens = c.tokens();
  attention::Operands operands(c);
  GpuVector<float> partial(size_t(tokens) * c.heads * cuda::kMostSplits * cuda::kStateFloats);
  GpuVector<unsigned> arrived(std::vector<unsigned>(size_t(tokens) * c.kv_heads, 0u));
  MmaAttentionArgs args{operands.args(), partial.data(), merge ? nullptr : arrived.data()};
  args.a.terms = nullptr;
  const dim3 block(cuda::kAttnThreads);
  for (const auto& [kernel, bytes] : {std::pair{kernels.decode, cuda::kDecodeShared}, {kernels.prefill, cuda::kPrefillShared}})
    (void)simt::allow_dynamic_shared(kernel, bytes);
  if (prefill) {
    const unsigned tile = cuda::kPrefillColumns / (c.heads / c.kv_heads);
    (void)simt::launch(kernels.prefill, {.grid = dim3((tokens + 2 + tile) / tile, c.kv_heads), .block = block,
                                         .dynamic_shared = cuda::kPrefillShared}, args);
  } else {
    const unsigned splits = cuda::most_splits(c.table_pages);
    for (int round = 0; round < (merge ? 1 : 2); ++round) {
      for (GpuVector<float>* results : {&operands.attn, &operands.lse})
        (void)cudaMemset(results->data(), 0xff, results->size() * sizeof(float));
      (void)simt::launch(kernels.decode, {.grid = dim3(tokens + 1, c.kv_heads, splits), .block = block,
                                          .dynamic_shared = cuda::kDecodeShared}, args);
    }
    if (merge) (void)simt::launch(kernels.merge, {.grid = dim3((tokens * c.heads + 3) / 4), .block = block}, args);
  }
  return operands.error();
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
  const Case long_decode(2, 1, 0, {8300}, {1});  // more keys than kMostSplits splits of one page a warp
  expect_clean("decode, 8300 keys", [&] { return run(long_decode, false, kReal); }, 1);
  {
    const Case c = decode_case(600);
    expect_clean("decode, splits merged by a kernel of their own", [&] { return run(c, false, kReal, true); }, 1);
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
  planted("decode: a split counted before it is there", {Kind::kRace}, false, GPTOSS_KERNELS(attn_no_fence));
  planted("decode: a split counted before all threads have stored it", {Kind::kRace}, false, GPTOSS_KERNELS(attn_no_store_barrier));
  planted("decode: a counter not reset", {}, false, GPTOSS_KERNELS(attn_not_reset));
  planted("decode: another head's counter", {Kind::kRace}, false, GPTOSS_KERNELS(attn_wrong_counter));
  expect_caught("decode: splits of one size, however many", {Kind::kOutOfBounds}, [&] { return run(long_decode, false, GPTOSS_KERNELS(attn_short_splits)); });
  planted("prefill: a maximum not scaled", {}, true, GPTOSS_KERNELS(attn_no_rescale));
  planted("decode: a transposition forgotten", {}, false, GPTOSS_KERNELS(attn_no_transpose));
  planted("decode: values never written", {}, false, GPTOSS_KERNELS(attn_unwritten_values));
  planted("prefill: one page too many on its way", {Kind::kInFlight, Kind::kRace}, true, GPTOSS_KERNELS(attn_wrong_wait_count));
  planted("prefill: a page overwritten early", {Kind::kInFlight, Kind::kRace}, true, GPTOSS_KERNELS(attn_no_reuse_barrier));
  planted("prefill: a causal mask off by one", {}, true, GPTOSS_KERNELS(attn_wrong_mask));
  planted("prefill: the other sequence's keys", {}, true, GPTOSS_KERNELS(attn_wrong_sequence));
  return harness::finish("mma_attention_test");
}
