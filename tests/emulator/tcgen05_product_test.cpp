// The products of cuda/tcgen05, through the interface that the backend uses, against float64 of what MXFP8 leaves; and faults
// planted in copies of their sources (cmake/PlantFaults.cmake).
#include <cstdlib>

#include "mma/kernels.h"
#include "planted/tcgen05.h"
#include "planted/tcgen05_quantize.h"
#include "product_cases.h"
#include "tcgen05/kernels.h"
#include "tcgen05/product.cuh"
#include "tensor_map.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using product::Seen;

std::unique_ptr<simt::MatrixKernels> make(const BackendOptions& options) {
  return cuda::make_mma_kernels(options, true, nullptr, cuda::make_tcgen05_products(options));
}

double up(int tokens, int rows) { return product::up(make, tokens, 1, Seen::kInMxfp8, rows); }
double down(int tokens, int rows, const product::Start& start = {}) {
  return product::down(make, tokens, 1, start, Seen::kInMxfp8, rows);
}
// 0 where a pair's sums are the same bits in a tile of few pairs and in one of many.
double bits_of_both_tiles() {
  constexpr int kFew = 32, kRows = 272;
  const std::vector<float> few = product::down_result(*make(product::options(1)), kFew, 1, {}, Seen::kInMxfp8, kRows).y;
  const std::vector<float> many = product::down_result(*make(product::options(1)), kFew + 1, 1, {}, Seen::kInMxfp8, kRows).y;
  return std::equal(few.begin(), few.end(), many.begin()) ? 0 : 1e30;
}

// --- Planted: both kernels, twice, the product on one block, whose rings and sums go on from one piece of work to the next.

constexpr int kTokens = 20, kRows = 272, kTile = 32;

template <class QuantizeArgs, class Job>
void start(const MoeArgs& a, void (*quantize)(QuantizeArgs), void (*product)(Job), size_t shared, int threads) {
  constexpr int kPairs = 2 * kTokens;
  const size_t pitch = cuda::Mxfp8Rows::pitch(a.experts.k);
  harness::GpuVector<uint8_t> rows(kPairs * pitch);
  Job job{{{a}}, {}, {}, {rows.data()}};
  const size_t blocks = a.experts.experts * cuda::tcgen05::expert_blocks(a.experts.rows, a.experts.k);
  if (!cuda::make_tensor_map(&job.weights, {CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B, a.experts.arranged,
                                            blocks * cuda::tcgen05::kBlockBytes / cuda::tcgen05::kRowBytes, 128, 64, 128, 128}) ||
      !cuda::make_tensor_map(&job.codes, {CU_TENSOR_MAP_DATA_TYPE_UINT8, rows.data(), kPairs, static_cast<size_t>(a.experts.k), pitch,
                                          kTile, 128}))
    return;
  (void)simt::allow_dynamic_shared(product, shared);
  for (int time = 0; time < 2; ++time) {
    const unsigned grid = (kPairs * a.experts.k / 8 + cuda::kQuantizeThreads - 1) / cuda::kQuantizeThreads;
    (void)simt::launch(quantize, {.grid = grid, .block = cuda::kQuantizeThreads, .programmatic = true}, QuantizeArgs{a, {rows.data()}});
    (void)simt::launch(product, {.grid = 1, .block = dim3(threads), .dynamic_shared = shared, .programmatic = true}, job);
  }
  (void)cudaDeviceSynchronize();
}

#define GPTOSS_START(space)                                                                                          \
  [](const MoeArgs& a) {                                                                                             \
    namespace k = gptoss::space;                                                                                     \
    start(a, cuda::quantize_mxfp8<false, cuda::AscendingOrder>, k::tcgen05_product<kTile, cuda::DownJob>,    \
          k::ProductShape<kTile>::kShared, k::kThreads);                                                             \
  }
#define GPTOSS_START_QUANTIZE(space)                                                                                 \
  [](const MoeArgs& a) {                                                                                             \
    namespace k = gptoss::space;                                                                                     \
    start(a, k::quantize_mxfp8<false, k::AscendingOrder>, cuda::tcgen05::tcgen05_product<kTile, cuda::DownJob>, \
          cuda::tcgen05::ProductShape<kTile>::kShared, cuda::tcgen05::kThreads);                                     \
  }

void planted(const char* name, const std::vector<Kind>& kinds, const product::Start& start) {
  expect_caught(name, kinds, [start] { return down(kTokens, kRows, start); });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  setenv("GPTOSS_CUDA_BLOCK_SCALED", "1", 1);
  harness::check(make(product::options(1))->name().find("block-scaled tcgen05") != std::string::npos, "tcgen05 is what multiplies");
  harness::check(make(product::options(3))->name().find("not block-scaled") != std::string::npos, "exact is not block-scaled");
  for (int tokens : {1, 7, 32, 33, 150}) {
    expect_clean("moe_up", [=] { return up(tokens, 32); }, 2);
    expect_clean("moe_down", [=] { return down(tokens, 32); }, 2);
  }
  expect_clean("moe_up, more rows than a block's", [] { return up(20, 272); }, 2);
  expect_clean("moe_down, more rows than a block's", [] { return down(20, 176); }, 2);
  expect_clean("moe_down, two tiles of an expert", [] { return down(230, 32); }, 1);
  expect_clean("moe_down, tiles of few and of many pairs", bits_of_both_tiles, 1);
  expect_clean("as launched for faults", [] { return down(kTokens, kRows, GPTOSS_START(cuda::tcgen05)); }, 6);

  const std::vector<Kind> early{Kind::kInFlight, Kind::kRace, Kind::kProxyFence, Kind::kInstruction, Kind::kDeadlock, Kind::kDivergence};
  const std::vector<Kind> stuck{Kind::kDeadlock, Kind::kDivergence};
  planted("scales: another byte", {}, GPTOSS_START(tcgen05_scale_byte));
  planted("scales: the first step's", {}, GPTOSS_START(tcgen05_first_scale));
  planted("scales: of weights and of pairs changed", {}, GPTOSS_START(tcgen05_scales_changed));
  planted("scales: one place in tensor memory for all stages", {Kind::kInFlight}, GPTOSS_START(tcgen05_one_scale_place));
  planted("scales: read as if they were swizzled", {Kind::kRace, Kind::kInFlight}, GPTOSS_START(tcgen05_swizzled_scales));
  planted("scales: rows one behind the other", {}, GPTOSS_START(tcgen05_scale_rows));
  planted("scales: of the next pair", {}, GPTOSS_START(tcgen05_next_pair));
  planted("scales: of the first block", {}, GPTOSS_START(tcgen05_wrong_scales));
  planted("descriptors: no swizzle", {}, GPTOSS_START(tcgen05_no_swizzle));
  planted("descriptors: half the stride", {}, GPTOSS_START(tcgen05_stride));
  planted("descriptors: those of wgmma", {Kind::kInstruction}, GPTOSS_START(tcgen05_wgmma_descriptor));
  planted("product: half a step along k", {}, GPTOSS_START(tcgen05_step));
  planted("product: sums that do not begin anew", {}, GPTOSS_START(tcgen05_never_anew));
  planted("product: sums that begin anew in the first block", {}, GPTOSS_START(tcgen05_always_anew));
  planted("product: a step beyond k", {}, GPTOSS_START(tcgen05_too_deep));
  planted("product: no wait for a full stage", early, GPTOSS_START(tcgen05_no_full_wait));
  planted("product: no wait for the sums to be taken", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_taken_wait));
  planted("product: no fence behind a full stage", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_fence_behind_full));
  planted("product: no commit of a stage", stuck, GPTOSS_START(tcgen05_no_commit));
  planted("product: a commit before the products, too", early, GPTOSS_START(tcgen05_early_commit));
  planted("product: no commit of the sums", stuck, GPTOSS_START(tcgen05_no_done));
  planted("sums: no wait for the products", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_done_wait));
  planted("sums: no fence behind the products", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_fence_behind_done));
  planted("sums: no fence behind the loads", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_fence_before_taken));
  planted("sums: no barrier of the warp behind the loads", {Kind::kInFlight, Kind::kRace}, GPTOSS_START(tcgen05_no_warp_barrier));
  planted("sums: no barrier of the warp behind the job", {Kind::kRace}, GPTOSS_START(tcgen05_no_reuse_barrier));
  planted("sums: no wait for the loads", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_load_wait));
  planted("sums: another warp's quarter", {Kind::kInstruction}, GPTOSS_START(tcgen05_quarter));
  planted("sums: the other set", {Kind::kInFlight}, GPTOSS_START(tcgen05_other_set));
  planted("sums: columns changed", {}, GPTOSS_START(tcgen05_next_column));
  planted("sums: the first strip twice", {}, GPTOSS_START(tcgen05_first_strip));
  planted("memory: not given back", {Kind::kInstruction}, GPTOSS_START(tcgen05_no_dealloc));
  planted("memory: less given back than was taken", {Kind::kInstruction}, GPTOSS_START(tcgen05_other_dealloc));
  planted("memory: given back too early", {Kind::kInFlight}, GPTOSS_START(tcgen05_early_dealloc));
  planted("memory: given back without a fence", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_last_fence));
  planted("memory: no barrier behind the allocation", {Kind::kRace, Kind::kInstruction}, GPTOSS_START(tcgen05_no_first_barrier));
  planted("memory: too few columns", {Kind::kOutOfBounds}, GPTOSS_START(tcgen05_few_columns));
  planted("memory: columns that are no power of two", {Kind::kInstruction}, GPTOSS_START(tcgen05_odd_columns));
  planted("memory: taken after the permit was given back", {Kind::kInstruction}, GPTOSS_START(tcgen05_no_permit));
  planted("memory: taken for granted at column 0", {Kind::kOutOfBounds, Kind::kInstruction}, GPTOSS_START(tcgen05_column_0));
  planted("ring: no proxy fence", {Kind::kProxyFence}, GPTOSS_START(tcgen05_no_proxy_fence));
  planted("ring: the bytes of a tile not announced", early, GPTOSS_START(tcgen05_few_bytes));
  planted("ring: the padding of codes announced", stuck, GPTOSS_START(tcgen05_padding_counted));
  planted("ring: one arrival too few expected", early, GPTOSS_START(tcgen05_few_arrivals));
  planted("ring: announced by two lanes", early, GPTOSS_START(tcgen05_all_announce));
  planted("ring: no wait for an empty stage", early, GPTOSS_START(tcgen05_no_empty_wait));
  planted("ring: a stage handed over one copy too early", {Kind::kInFlight, Kind::kProxyFence, Kind::kRace}, GPTOSS_START(tcgen05_late_scales));
  planted("ring: left before the last arrivals", {Kind::kInFlight}, GPTOSS_START(tcgen05_no_drain));
  planted("ring: blocks without their scales", {}, GPTOSS_START(tcgen05_wrong_block));
  planted("ring: activations of the next column", {}, GPTOSS_START(tcgen05_wrong_box));
  planted("ring: activations of the next pair", {}, GPTOSS_START(tcgen05_wrong_tile));
  planted("ring: another expert's weights", {}, GPTOSS_START(tcgen05_other_expert));
  planted("quantize: columns changed", {}, GPTOSS_START_QUANTIZE(tcgen05_quantize_order));
  planted("quantize: the order of mma.sync", {}, GPTOSS_START_QUANTIZE(tcgen05_quantize_fragments));
  return harness::finish("tcgen05_product_test");
}
