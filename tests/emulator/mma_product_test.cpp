// The products of cuda/mma, through the interface that the backend uses, against float64; and faults planted in copies
// of their sources (cmake/PlantFaults.cmake).
#include "mma/kernels.h"
#include "mma/product.cuh"
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
  return harness::finish("mma_product_test");
}
