// The products of cuda/wgmma, through the interface that the backend uses, against float64 and against the bits of
// cuda/mma; faults planted in copies of their sources (cmake/PlantFaults.cmake); and when attention is wgmma's.
#include <cstring>

#include "attention_cases.h"
#include "mma/kernels.h"
#include "planted/wgmma.h"
#include "product_cases.h"
#include "tensor_map.h"
#include "wgmma/kernels.h"
#include "wgmma/product.cuh"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;

std::unique_ptr<simt::MatrixKernels> make_mma(const BackendOptions& options) { return cuda::make_mma_kernels(options, false); }
std::unique_ptr<simt::MatrixKernels> make(const BackendOptions& options) {
  return cuda::make_mma_kernels(options, true, cuda::make_wgmma_products(options));
}

// 0 where they are the same bits, which mma.sync and wgmma give where both add the products of a step alike.
double differing(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0 ? 0 : 1e30;
}
double linear_bits(int tokens, int k, int rows) {
  const product::LinearCase c(rows, k, tokens, tokens, 1);
  return differing(product::linear_result(*make(product::options(1)), c),
                   product::linear_result(*make_mma(product::options(1)), c));
}
double down_bits(int tokens) {
  return differing(product::down_result(*make(product::options(1)), tokens, 1).y,
                   product::down_result(*make_mma(product::options(1)), tokens, 1).y);
}

// --- Attention, of a card with four multiprocessors. A block takes 24 tokens of a KV head.

BackendOptions with_cache(KvDType kv_dtype) {
  BackendOptions options = product::options(1);
  options.kv_dtype = kv_dtype;
  return options;
}
double attention_of(int tokens, bool expected, KvDType kv_dtype = KvDType::bf16, bool wanted = true) {
  const attention::Case c(8, 1, 0, {tokens}, {tokens});
  attention::Operands operands(c);
  const std::unique_ptr<cuda::WideProducts> kernels = cuda::make_wgmma_products(with_cache(kv_dtype), wanted);
  const bool named = kernels->name().find("attention") != std::string::npos;
  if (named != (wanted && kv_dtype == KvDType::bf16)) return HUGE_VAL;
  const bool taken = kernels->attn(operands.args(), product::to(tokens));
  if (taken != expected) return HUGE_VAL;
  return taken ? operands.error() : 0;
}
double attention_of_all_kernels(int tokens) {
  const attention::Case c(8, 1, 100, {tokens}, {tokens});
  attention::Operands operands(c);
  const std::unique_ptr<simt::MatrixKernels> kernels = make(with_cache(KvDType::bf16));
  if (!kernels->attn(operands.args(), product::to(tokens))) return HUGE_VAL;
  return operands.error();
}

// --- Planted

constexpr int kTokens = 100;

// The kernel of a namespace, on one block for both experts: its ring goes on from one to the other.
#define GPTOSS_START(space)                                                                                          \
  [](const MoeArgs& a) {                                                                                             \
    namespace k = gptoss::space;                                                                                     \
    (void)simt::allow_dynamic_shared(k::wgmma_product<k::Mxfp4Units, cuda::DownJob>,                                 \
                                     k::ProductShape<k::Mxfp4Units>::kShared);                                       \
    (void)simt::launch(k::wgmma_product<k::Mxfp4Units, cuda::DownJob>,                                               \
                       {.grid = 1, .block = dim3(k::kThreads), .dynamic_shared = k::ProductShape<k::Mxfp4Units>::kShared}, \
                       cuda::DownJob{{a}});                                                                          \
  }

// The same for bf16: one block for all rows and tokens.
#define GPTOSS_START_LINEAR(space)                                                                                   \
  [](const LinearArgs& a) {                                                                                          \
    namespace k = gptoss::space;                                                                                     \
    k::Contiguous<cuda::LinearJob> job{{a, 1, k::kColumns}, {}};                                                     \
    if (!cuda::make_tensor_map(&job.rows, a.x.terms, kTokens, a.k, a.k, k::kColumns, cuda::kUnitDepth)) return;      \
    (void)simt::allow_dynamic_shared(k::wgmma_product<k::Bf16Units, decltype(job)>,                                  \
                                     k::ProductShape<k::Bf16Units>::kShared);                                        \
    (void)simt::launch(k::wgmma_product<k::Bf16Units, decltype(job)>,                                                \
                       {.grid = 1, .block = dim3(k::kThreads), .dynamic_shared = k::ProductShape<k::Bf16Units>::kShared}, \
                       job);                                                                                         \
  }
double linear_as_launched(const product::StartLinear& start) {
  const product::LinearCase c(176, 576, kTokens, kTokens, 1);
  return harness::worst(product::linear_result(*make(product::options(1)), c, start), c.expected, product::tolerance(c.expected));
}
void planted_linear(const char* name, const std::vector<Kind>& kinds, const product::StartLinear& start) {
  expect_caught(name, kinds, [start] { return linear_as_launched(start); });
}

void planted(const char* name, const std::vector<Kind>& kinds, const product::Start& start) {
  expect_caught(name, kinds, [start] { return product::down(make, kTokens, 1, start); });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (const auto& [tokens, live] : {std::pair{65, 65}, {70, 40}, {128, 127}, {150, 140}, {300, 129}})
    expect_clean("linear", [=] { return product::linear(make, tokens, live, 1); }, 1);
  expect_clean("linear, more rows than a block's", [] { return product::linear(make, 140, 140, 1, 576, 176); }, 2);
  expect_clean("linear, fewer units of k than parts", [] { return product::linear(make, 70, 70, 1, 128); }, 2);
  expect_clean("moe_up", [] { return product::up(make, kTokens, 1); }, 2);
  expect_clean("moe_down", [] { return product::down(make, kTokens, 1); }, 2);
  expect_clean("moe_down, two tiles of an expert", [] { return product::down(make, 230, 1); }, 1);
  expect_clean("linear: the bits of mma.sync", [] { return linear_bits(140, 576, 176); }, 1);
  expect_clean("linear, a short k: the bits of mma.sync", [] { return linear_bits(70, 192, 48); }, 1);
  expect_clean("moe_down: the bits of mma.sync", [] { return down_bits(kTokens); }, 1);
  expect_clean("attention, a block for each multiprocessor", [] { return attention_of(73, true); }, 1);
  expect_clean("attention, one block less", [] { return attention_of(72, false); }, 1);
  expect_clean("attention over a cache in float32", [] { return attention_of(73, false, KvDType::f32); }, 1);
  expect_clean("attention left out", [] { return attention_of(73, false, KvDType::bf16, false); }, 1);
  for (int tokens : {72, 100}) expect_clean("attention, whosever", [=] { return attention_of_all_kernels(tokens); }, 1);
  expect_clean("as launched for faults", [] { return product::down(make, kTokens, 1, GPTOSS_START(cuda::wgmma)); }, 4);

  expect_clean("linear, as launched for faults", [] { return linear_as_launched(GPTOSS_START_LINEAR(cuda::wgmma)); }, 2);

  planted_linear("boxes: the bytes of a box not announced", {Kind::kInFlight, Kind::kDeadlock}, GPTOSS_START_LINEAR(no_box_bytes));
  planted_linear("boxes: at the wrong column", {}, GPTOSS_START_LINEAR(wrong_box));
  planted_linear("boxes: a stage given back too early", {Kind::kInFlight, Kind::kRace}, GPTOSS_START_LINEAR(early_release));
  planted("ring: no proxy fence", {Kind::kProxyFence}, GPTOSS_START(no_proxy_fence));
  planted("ring: the bytes of a strip not announced", {Kind::kInFlight, Kind::kDeadlock}, GPTOSS_START(too_few_bytes));
  planted("ring: one arrival too few expected", {Kind::kInFlight, Kind::kDeadlock, Kind::kInstruction, Kind::kRace},
          GPTOSS_START(one_arrival_too_few));
  planted("ring: no wait for an empty stage", {Kind::kInFlight, Kind::kInstruction, Kind::kRace}, GPTOSS_START(no_wait_for_empty));
  planted("ring: rows without the swizzle", {}, GPTOSS_START(no_swizzle));
  planted("ring: a stage handed over one copy too early", {Kind::kInFlight, Kind::kProxyFence, Kind::kRace}, GPTOSS_START(late_copies));
  planted("ring: the next column's activations", {}, GPTOSS_START(next_column));
  planted("ring: another strip's weights", {}, GPTOSS_START(next_strip));
  planted("fragments: the scales of the first half", {}, GPTOSS_START(first_scales));
  planted("fragments: the codes of the first half", {}, GPTOSS_START(same_half));
  planted("product: no barrier after making mbarriers", {Kind::kRace, Kind::kInstruction}, GPTOSS_START(no_first_barrier));
  planted("product: the wrong parity", {Kind::kInFlight, Kind::kRace, Kind::kDeadlock}, GPTOSS_START(wrong_parity));
  planted("product: no wait for the products", {Kind::kInFlight}, GPTOSS_START(no_wait_for_products));
  planted("product: no fence for the registers", {Kind::kInFlight}, GPTOSS_START(no_register_fence));
  planted("product: half a step along k", {}, GPTOSS_START(wrong_step));
  planted("product: a quarter of a unit along k", {}, GPTOSS_START(wrong_half));
  planted("product: a chain that does not begin anew", {}, GPTOSS_START(chain_goes_on));
  planted("product: a part that does not begin anew", {}, GPTOSS_START(part_goes_on));
  planted("product: a stage given back too early", {Kind::kInFlight, Kind::kRace}, GPTOSS_START(early_release));
  planted("product: no barrier before the sums are read", {Kind::kRace}, GPTOSS_START(no_sum_barrier));
  planted("product: columns changed", {}, GPTOSS_START(wrong_column));
  return harness::finish("wgmma_product_test");
}
