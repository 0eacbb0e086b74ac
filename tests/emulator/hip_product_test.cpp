// The products of hip/matrix on MFMA and on WMMA, against float64; and faults planted in copies of their
// sources (cmake/PlantFaults.cmake). Built once for each kind of matrix core.
#include <cstdlib>

#include "attention_cases.h"
#include "matrix/kernels.h"
#include "matrix/product.cuh"
#include "matrix/scaled.cuh"
#include "planted/matrix.h"
#include "planted/matrix_scaled.h"
#include "product_cases.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;

// A job that takes every column from the item's first pair.
struct OneSource : simt::DownJob<hip::Layout> {
  GPTOSS_DEVICE int source(int item, int) const { return pair(item, 0); }
};
// One that takes each from its neighbour.
struct NextSource : simt::DownJob<hip::Layout> {
  GPTOSS_DEVICE int source(int item, int i) const { return pair(item, (i + 1) % sources(item)); }
};

// The kernel of a namespace, one strip and one tile of columns, on two blocks.
template <class Job, class Args>
void launch(void (*kernel)(Job), const Args& a, int lanes = simt::kWarp) {
  Job job{};
  job.a = a;
  if constexpr (requires { job.tiles; }) job.tiles = 1, job.tile_tokens = hip::kTileColumns;
  (void)simt::launch(kernel, {.grid = 2, .block = dim3(hip::kProductWaves * lanes),
                              .dynamic_shared = hip::ProductShape<1, 1>::kShared}, job);
}
template <class Job>
void start_job(const MoeArgs& a) {
  launch(hip::matrix_product<hip::Mxfp4Units, 1, 1, Job>, a);
}
#define GPTOSS_START_OF(space, units)                                                                            \
  [](const MoeArgs& a) {                                                                                         \
    launch(gptoss::space::matrix_product<gptoss::space::units, 1, 1, simt::DownJob<gptoss::space::Layout>>, a);  \
  }
#define GPTOSS_START(space) GPTOSS_START_OF(space, Mxfp4Units)
#define GPTOSS_START_LINEAR(space)                                                                                  \
  [](const LinearArgs& a) {                                                                                         \
    launch(gptoss::space::matrix_product<gptoss::space::Bf16Units, 1, 1, simt::LinearJob<gptoss::space::Layout>>, a); \
  }

void planted(const char* name, const std::vector<Kind>& kinds, const product::Start& start, int terms = 1) {
  expect_caught(name, kinds, [=] { return product::down(hip::make_matrix_kernels, 8 / terms, terms, start); });
}
// Of a matrix in bf16 that has fewer units of k than there are waves.
double narrow(const product::StartLinear& start) {
  const product::LinearCase c(48, 32, 3, 3, 1);
  return harness::worst(product::linear_result(*hip::make_matrix_kernels(product::options(1)), c, start), c.expected,
                        product::tolerance(c.expected));
}

// Attention as the engine asks for it: hip_attention_test launches the kernels itself.
double attn(const attention::Case& c) {
  attention::Operands operands(c);
  AttentionArgs args = operands.args();
  args.terms = nullptr;
  BackendOptions options = product::options(1);
  options.kv_dtype = KvDType::bf16;
  const bool taken = hip::make_matrix_kernels(options)->attn(args, product::to(c.tokens()));
  return taken ? operands.error() : INFINITY;
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  const auto make = hip::make_matrix_kernels;
  for (const auto& [tokens, live] : {std::pair{1, 1}, {4, 3}, {16, 11}, {32, 32}, {70, 70}})
    expect_clean("linear, fast", [=] { return product::linear(make, tokens, live, 1); }, 2);
  expect_clean("linear, units left over", [=] { return product::linear(make, 17, 17, 1, 416); }, 2);
  expect_clean("linear, fewer units than waves", [=] { return product::linear(make, 3, 3, 1, 32); }, 2);
  for (const auto& [tokens, live] : {std::pair{2, 1}, {8, 7}, {30, 30}})
    expect_clean("linear, exact", [=] { return product::linear(make, tokens, live, 3); }, 2);
  for (int tokens : {1, 7, 30, 66}) {
    expect_clean("moe_up, fast", [=] { return product::up(make, tokens, 1); }, 2);
    expect_clean("moe_down, fast", [=] { return product::down(make, tokens, 1); }, 2);
  }
  for (int tokens : {2, 9}) {
    expect_clean("moe_up, exact", [=] { return product::up(make, tokens, 3); }, 2);
    expect_clean("moe_down, exact", [=] { return product::down(make, tokens, 3); }, 2);
  }
  expect_clean("moe_down, exact, more than a tile", [=] { return product::down(make, 30, 3); }, 1);
  for (int terms : {1, 3})
    expect_clean("moe_down, fewer units than waves",
                 [=] { return product::down(make, 5, terms, {}, product::Seen::kAsGiven, product::ExpertCase::kRows, 32); }, 2);
  using attention::Case;
  expect_clean("attn, splits of a long context", [c = Case(4, 2, 0, {1100, 70}, {1, 1})] { return attn(c); }, 1);
  expect_clean("attn, a prefill of several blocks", [c = Case(8, 1, 100, {90, 75}, {60, 8})] { return attn(c); }, 1);
  expect_clean("linear, one strip on two blocks", [] { return narrow(GPTOSS_START_LINEAR(hip)); }, 2);
  expect_clean("moe_down, one strip on two blocks", [=] { return product::down(make, 8, 1, GPTOSS_START(hip)); }, 2);

#if GPTOSS_HAS_MFMA
  // gfx950's own, as its document is read.
  setenv("GPTOSS_HIP_SCALED_MFMA", "1", 1);
  for (int tokens : {1, 30}) {
    expect_clean("moe_up, scaled", [=] { return product::up(make, tokens, 1); }, 2);
    expect_clean("moe_down, scaled", [=] { return product::down(make, tokens, 1); }, 2);
  }
  expect_clean("moe_down, scaled and exact", [=] { return product::down(make, 9, 3); }, 2);
  expect_clean("moe_down, scaled, of next to nothing", [=] { return product::down(make, 5, 1, {}, product::Seen::kTiny); }, 2);
  planted("scaled: codes in another order", {}, start_job<simt::DownJob<hip::Layout>>);  // of the kernel that decodes
  planted("scaled: numbers too large for e4m3", {}, GPTOSS_START_OF(scaled_large, ScaledMxfp4Units));
  planted("scaled: the second number's scale", {}, GPTOSS_START_OF(scaled_second, ScaledMxfp4Units));
  planted("scaled: scales exchanged", {}, GPTOSS_START_OF(scaled_exchanged, ScaledMxfp4Units));
  planted("scaled: the wrong byte's rest", {}, GPTOSS_START_OF(scaled_byte, ScaledMxfp4Units));
  planted("scaled: the largest of every second number", {}, GPTOSS_START_OF(scaled_half, ScaledMxfp4Units));
  expect_caught("scaled: a scale below the smallest", {}, [=] {
    return product::down(make, 5, 1, GPTOSS_START_OF(scaled_wraps, ScaledMxfp4Units), product::Seen::kTiny);
  });
  unsetenv("GPTOSS_HIP_SCALED_MFMA");
#endif

  planted("product: rows of a fragment changed", {}, GPTOSS_START(wrong_lane_map));
  planted("product: a column's neighbour", {}, GPTOSS_START(wrong_column));
  planted("product: the wrong unit of k for a lane", {}, GPTOSS_START(wrong_group));
  planted("product: no barrier between the waves' parts", {Kind::kRace}, GPTOSS_START(missing_part_barrier));
  planted("product: no barrier behind the sums", {Kind::kRace}, GPTOSS_START(missing_reuse_barrier));
  planted("product: the last weights not loaded", {}, GPTOSS_START(late_weights));
  planted("product: one step too few", {}, GPTOSS_START(step_too_few));
  if (hip::MatrixCore::kGroups == 4)  // elsewhere no lane is left without a unit
    planted("product: past the last unit", {Kind::kOutOfBounds}, GPTOSS_START(unit_past_the_end));
  planted("product: a matrix instruction in a branch", {Kind::kDivergence}, GPTOSS_START(divergent_multiply));
  planted("weights: the next row's scale", {}, GPTOSS_START(wrong_scale));
  planted("weights: halves of a word changed", {}, GPTOSS_START(wrong_half));
  planted("weights: bytes of a permute changed", {}, GPTOSS_START(wrong_permute));
  planted("weights: no sign", {}, GPTOSS_START(no_sign));
  planted("weights: the table's halves exchanged", {}, GPTOSS_START(wrong_table));
  planted("weights: a sign in the magnitude", {}, GPTOSS_START(sign_in_magnitude));
  planted("product: columns overlap in shared memory", {Kind::kRace}, GPTOSS_START(columns_overlap));
  planted("product: the first term of a token alone", {}, GPTOSS_START(first_term), 3);
  planted("product: all columns of a token are its first term", {}, GPTOSS_START(same_term), 3);
  planted("product: operands in different orders of k", {}, GPTOSS_START(other_order));
  planted("product: operands exchanged", {}, GPTOSS_START(exchanged));
  if (hip::MatrixCore::kGroups > 1)
    expect_caught("weights: registers of no unit not cleared", {Kind::kInstruction},
                  [] { return narrow(GPTOSS_START_LINEAR(not_cleared)); });
  planted("experts: the first pair's activations for all", {}, start_job<OneSource>);
  planted("experts: the next pair's activations", {}, start_job<NextSource>);
  planted("launch: as if waves had half their lanes", {}, [](const MoeArgs& a) {
    launch(hip::matrix_product<hip::Mxfp4Units, 1, 1, simt::DownJob<hip::Layout>>, a, simt::kWarp / 2);
  });
  return harness::finish(GPTOSS_TEST_NAME);
}
