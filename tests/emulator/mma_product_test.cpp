// The products of cuda/mma, through the interface that the backend uses, against float64; and faults planted in copies
// of their sources (cmake/PlantFaults.cmake).
#include <cstdlib>

#include "mma/kernels.h"
#include "mma/product.cuh"
#include "mma/scaled.cuh"
#include "planted/block_scaled.h"
#include "planted/mma.h"
#include "product_cases.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;

std::unique_ptr<simt::MatrixKernels> make(const BackendOptions& options) { return cuda::make_mma_kernels(options, false); }

// --- Planted

// The kernel of a namespace, one tile of columns, on two blocks.
#define GPTOSS_START(space)                                                                                           \
  [](const MoeArgs& a) {                                                                                              \
    namespace k = gptoss::space;                                                                                      \
    (void)simt::allow_dynamic_shared(k::mma_product<k::Mxfp4Units, 1, k::DownJob>,                                    \
                                     k::ProductShape<k::Mxfp4Units, 1>::kShared);                                     \
    (void)simt::launch(k::mma_product<k::Mxfp4Units, 1, k::DownJob>,                                                  \
                       {.grid = 2, .block = dim3(k::kProductThreads),                                                 \
                        .dynamic_shared = k::ProductShape<k::Mxfp4Units, 1>::kShared},                                \
                       k::DownJob{{a}});                                                                              \
  }

void planted(const char* name, const std::vector<Kind>& kinds, const product::Start& start) {
  expect_caught(name, kinds, [start] { return product::down(make, 8, 1, start); });
}

// Both kernels of a namespace, twice: a block that does not wait for its predecessors meets those of the first time.
#define GPTOSS_START_SCALED(space)                                                                                    \
  [](const MoeArgs& a) {                                                                                              \
    namespace k = gptoss::space;                                                                                      \
    using Shape = k::ProductShape<k::ScaledMxfp4Units, 1>;                                                            \
    const auto product = k::mma_product<k::ScaledMxfp4Units, 1, k::ScaledJob<k::DownJob>>;                            \
    harness::GpuVector<uint8_t> rows(kScaledPairs * k::Mxfp8Rows::pitch(a.experts.k));                                \
    (void)simt::allow_dynamic_shared(product, Shape::kShared);                                                        \
    for (int time = 0; time < 2; ++time) {                                                                            \
      const unsigned blocks = (kScaledPairs * a.experts.k / 8 + k::kQuantizeThreads - 1) / k::kQuantizeThreads;       \
      (void)simt::launch(k::quantize_mxfp8<false>,                                                                    \
                         {.grid = blocks, .block = k::kQuantizeThreads, .programmatic = true},                        \
                         k::QuantizeArgs{a, {rows.data()}});                                                          \
      (void)simt::launch(product, {.grid = 2, .block = dim3(k::kProductThreads), .dynamic_shared = Shape::kShared,    \
                                   .programmatic = true},                                                             \
                         k::ScaledJob<k::DownJob>{{{a}}, {rows.data()}});                                             \
    }                                                                                                                 \
    (void)cudaDeviceSynchronize();                                                                                    \
  }

constexpr int kScaledTokens = 8, kScaledPairs = 2 * kScaledTokens;

void planted_scaled(const char* name, const std::vector<Kind>& kinds, const product::Start& start) {
  expect_caught(name, kinds, [start] {
    return product::down(make, kScaledTokens, 1, start, product::Seen::kInMxfp8);
  });
}

void block_scaled() {
  setenv("GPTOSS_CUDA_BLOCK_SCALED", "1", 1);
  for (int tokens : {1, 7, 30, 66}) {
    expect_clean("moe_up, block-scaled", [=] { return product::up(make, tokens, 1, product::Seen::kInMxfp8); }, 2);
    expect_clean("moe_down, block-scaled", [=] { return product::down(make, tokens, 1, {}, product::Seen::kInMxfp8); }, 2);
  }
  expect_clean("moe_down, exact is not block-scaled", [=] { return product::down(make, 9, 3); }, 2);
  expect_clean("moe_down, block-scaled, twice",
               [=] { return product::down(make, kScaledTokens, 1, GPTOSS_START_SCALED(cuda), product::Seen::kInMxfp8); }, 4);

  planted_scaled("block-scaled: another byte of the weights' scales", {}, GPTOSS_START_SCALED(scaled_wrong_byte));
  planted_scaled("block-scaled: the neighbouring block's scale of activations", {}, GPTOSS_START_SCALED(scaled_neighbour));
  planted_scaled("block-scaled: one row's scale for both", {}, GPTOSS_START_SCALED(scaled_one_row));
  planted_scaled("block-scaled: scales that do not move on", {}, GPTOSS_START_SCALED(scaled_first_scale));
  planted_scaled("block-scaled: codes a bit too low in their bytes", {}, GPTOSS_START_SCALED(scaled_wrong_shift));
  planted_scaled("block-scaled: two codes in a byte", {Kind::kInstruction}, GPTOSS_START_SCALED(scaled_no_mask));
  planted_scaled("block-scaled: rows of a fragment changed", {}, GPTOSS_START_SCALED(scaled_wrong_row));
  planted_scaled("block-scaled: halves of a unit changed", {}, GPTOSS_START_SCALED(scaled_wrong_half));
  planted_scaled("block-scaled: rows by pair", {}, GPTOSS_START_SCALED(scaled_by_pair));
  planted_scaled("quantize: more above 448 than there should be", {}, GPTOSS_START_SCALED(quantize_small_scale));
  planted_scaled("quantize: nothing above 448", {}, GPTOSS_START_SCALED(quantize_large_scale));
  planted_scaled("quantize: the largest of half a block", {}, GPTOSS_START_SCALED(quantize_half_block));
  planted_scaled("quantize: the other block's scale", {}, GPTOSS_START_SCALED(quantize_wrong_block));
  planted_scaled("quantize: even and odd columns changed", {}, GPTOSS_START_SCALED(quantize_wrong_order));
  planted_scaled("quantize: no wait for the kernels before", {Kind::kRace}, GPTOSS_START_SCALED(quantize_no_wait));
  unsetenv("GPTOSS_CUDA_BLOCK_SCALED");
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (const auto& [tokens, live] : {std::pair{1, 1}, {4, 3}, {16, 11}, {32, 32}, {40, 33}, {130, 129}})
    expect_clean("linear, fast", [=] { return product::linear(make, tokens, live, 1); }, 2);
  for (const auto& [tokens, live] : {std::pair{2, 1}, {8, 7}, {50, 43}})
    expect_clean("linear, exact", [=] { return product::linear(make, tokens, live, 3); }, 2);
  for (int tokens : {1, 7, 30, 99}) {
    expect_clean("moe_up, fast", [=] { return product::up(make, tokens, 1); }, 2);
    expect_clean("moe_down, fast", [=] { return product::down(make, tokens, 1); }, 2);
  }
  for (int tokens : {2, 9}) {
    expect_clean("moe_up, exact", [=] { return product::up(make, tokens, 3); }, 2);
    expect_clean("moe_down, exact", [=] { return product::down(make, tokens, 3); }, 2);
  }

  planted("ring: one unit too many on its way", {Kind::kInFlight}, GPTOSS_START(wrong_wait_count));
  planted("ring: a unit not committed", {Kind::kInFlight}, GPTOSS_START(missing_commit));
  planted("ring: the newest slot is read", {}, GPTOSS_START(wrong_slot));
  planted("product: no barrier before the sums", {Kind::kRace}, GPTOSS_START(missing_sum_barrier));
  planted("product: no barrier behind the sums", {Kind::kRace}, GPTOSS_START(missing_reuse_barrier));
  planted("product: rows of a fragment changed", {}, GPTOSS_START(wrong_fragment_row));
  planted("product: activations of another part of k", {}, GPTOSS_START(wrong_part));
  planted("weights: the other row's scale", {}, GPTOSS_START(wrong_scale));
  planted("weights: halves of a unit changed", {}, GPTOSS_START(wrong_half));
  planted("experts: another pair's activations", {}, GPTOSS_START(wrong_pair));
  block_scaled();
  return harness::finish("mma_product_test");
}
