// The attention of hip/matrix against float64: windows at the edges of pages, ragged steps of several
// sequences, splits that have blocks of their own or not; and planted faults. Built once for each kind of
// matrix core.
#include "attention_cases.h"
#include "matrix/attention.cuh"
#include "planted/matrix_attention.h"

namespace {

using namespace gptoss;
using attention::Case;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;

using Kernel = void (*)(MatrixAttentionArgs);
struct Kernels {
  Kernel whole, split, merge;
};
#define GPTOSS_KERNELS(space)                                                                                           \
  Kernels{gptoss::space::matrix_attention<0>, gptoss::space::matrix_attention<1>, gptoss::space::matrix_attention<2>}
const Kernels kReal = GPTOSS_KERNELS(hip);

struct Result {
  std::vector<float> attn, lse;
};

// `tile`: tokens of a block. `split`: in a grid of splits, and their merge.
Result run(const Case& c, int tile, bool split, const Kernels& kernels) {
  attention::Operands operands(c);
  const MatrixAttentionArgs args{operands.args(), tile};
  const auto launch = [&](Kernel kernel, int z) {
    const dim3 grid((c.tokens() + tile) / tile, c.kv_heads, z);  // made for one token more, or not
    (void)simt::launch(kernel, {.grid = grid, .block = dim3(hip::kAttentionWaves * simt::kWarp),
                                .dynamic_shared = sizeof(hip::AttentionShared)}, args);
  };
  if (split) {
    launch(kernels.split, args.a.splits);
    launch(kernels.merge, 1);
  } else {
    launch(kernels.whole, 1);
  }
  Result result{operands.attn.host(), operands.lse.host()};
  const std::vector<uint16_t> rounded = operands.terms.host();
  for (size_t i = 0; i < rounded.size(); ++i)
    if (rounded[i] != simt::float_to_bf16(result.attn[i])) result.attn[i] = NAN;
  return result;
}

// Weights are rounded to bf16, 2^-9 each at most, against values of size 1; scores are float32 sums.
double error(const Case& c, const Result& got) {
  return std::max(harness::worst(got.attn, c.attn, 0x1p-8), harness::worst(got.lse, c.lse, 2e-5));
}

// And the same bits whatever a block takes.
double every_way(const Case& c) {
  const int most = hip::kMostColumns / (c.heads / c.kv_heads);
  const Result whole = run(c, most, false, kReal);
  double worst = error(c, whole);
  for (const Result& other : {run(c, 1, false, kReal), run(c, 3, true, kReal)})
    if (other.attn != whole.attn || other.lse != whole.lse) worst = INFINITY;
  return worst;
}

void planted(const char* name, const std::vector<Kind>& kinds, const Kernels& kernels, bool split = false) {
  static const Case ragged(8, 1, 100, {190, 75}, {5, 3}), deep(4, 2, 0, {1100, 70}, {1, 1});
  expect_caught(name, kinds, [=] {
    const Case& c = split ? deep : ragged;
    return error(c, run(c, split ? 1 : 8, split, kernels));
  });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (int end : {1, 64, 65, 1030})
    expect_clean("full, two sequences", [c = Case(8, 2, 0, {end, 70}, {1, 1})] { return every_way(c); }, 1);
  for (int end : {127, 128, 129, 192})
    expect_clean("a window of 128", [c = Case(8, 1, 128, {end}, {2})] { return every_way(c); }, 1);
  for (int window : {0, 1, 100})
    expect_clean("two sequences in a tile", [c = Case(8, 1, window, {90, 75}, {11, 8})] { return every_way(c); }, 2);
  expect_clean("groups of one", [c = Case(2, 2, 0, {20}, {20})] { return every_way(c); }, 1);
  expect_clean("groups of sixteen", [c = Case(16, 1, 0, {9}, {9})] { return every_way(c); }, 1);

  planted("no barrier before a page is read", {Kind::kRace}, GPTOSS_KERNELS(no_page_barrier));
  planted("no barrier before a page is overwritten", {Kind::kRace}, GPTOSS_KERNELS(no_reuse_barrier));
  planted("weights of other lanes not waited for", {Kind::kRace}, GPTOSS_KERNELS(no_weight_barrier));
  planted("a window off by one", {}, GPTOSS_KERNELS(window_off_by_one));
  planted("a causal mask off by one", {}, GPTOSS_KERNELS(mask_off_by_one));
  planted("the other sequence's keys", {}, GPTOSS_KERNELS(other_sequence));
  planted("rows of a fragment changed", {}, GPTOSS_KERNELS(wrong_row));
  planted("as if a column were in 32 lanes' hands", {}, GPTOSS_KERNELS(wave_of_32));
  planted("sums not scaled to the new maximum", {}, GPTOSS_KERNELS(no_rescale));
  planted("values that were never written", {}, GPTOSS_KERNELS(unwritten_values));
  planted("a split left out", {}, GPTOSS_KERNELS(split_left_out), true);
  return harness::finish(GPTOSS_TEST_NAME);
}
