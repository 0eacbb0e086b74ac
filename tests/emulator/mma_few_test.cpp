// Stages of few tokens that are one kernel of cuda/mma: to the bit what the kernels do that they stand for, which other
// tests compare with float64; and faults planted in copies of their sources.
#include <cstring>

#include "mma/kernels.h"
#include "mma/product.cuh"
#include "planted/mma_few.h"
#include "product_cases.h"
#include "simt/grids.h"
#include "simt/moe.cuh"
#include "simt/norm.cuh"
#include "simt/route.cuh"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;
using harness::normal_numbers;
using simt::MatrixKernels;
using simt::MatrixShape;

constexpr int kHidden = 576, kScratch = 4096;

template <class T>
double differ(GpuVector<T>& a, GpuVector<T>& b) {
  const std::vector<T> x = a.host(), y = b.host();
  return std::memcmp(x.data(), y.data(), x.size() * sizeof(T)) == 0 ? 0 : INFINITY;
}
template <class T>
std::vector<T> zeros(size_t count) {
  return std::vector<T>(count, T{});
}

// A residual of some tokens, and the norm of it that a product multiplies.
struct NormCase {
  GpuVector<int32_t> count;
  GpuVector<float> x, gain;
  int terms;
  NormCase(int tokens, int live, int terms)
      : count(std::vector<int32_t>{live}), x(normal_numbers(size_t(tokens) * kHidden, 1)), gain(normal_numbers(kHidden, 2)), terms(terms) {}
  Operand operand(GpuVector<uint16_t>& bits) { return {.values = nullptr, .terms = bits.data(), .size = kHidden, .count = terms, .round = false}; }
  NormArgs args(GpuVector<uint16_t>& bits) {
    return {.count = count.data(), .row = nullptr, .x = x.data(), .gain = gain.data(), .out = operand(bits), .eps = 1e-5f};
  }
  void run(GpuVector<uint16_t>& bits, int tokens) {
    (void)simt::launch(simt::rmsnorm, {.grid = dim3(tokens), .block = dim3(simt::row_threads(kHidden)), .dynamic_shared = simt::kRowShared}, args(bits));
  }
};

struct Weights {
  product::Bf16Matrix w;
  GpuVector<uint16_t> rows;
  GpuVector<uint8_t> arranged;
  GpuVector<float> bias;
  Weights(const MatrixKernels& kernels, MatrixShape shape)
      : w(shape.rows, shape.k, 3), rows(w.bits), arranged(kernels.bytes(shape)), bias(normal_numbers(shape.rows, 4)) {
    kernels.arrange(shape, {.expert = 0, .first = 0, .count = shape.rows, .dense = rows.data()}, arranged.data(), nullptr);
    (void)cudaDeviceSynchronize();
  }
  LinearArgs args(const NormArgs& norm, float* y) {
    return {.count = norm.count, .weight = nullptr, .arranged = arranged.data(), .bias = bias.data(), .x = norm.out, .y = y,
            .rows = w.rows, .k = w.k, .add = false};
  }
};

// --- qkv

template <class Kv>
double qkv(int tokens, int live, int terms) {
  constexpr int kHeads = 2, kKvHeads = 1, kDim = 64, kRows = (kHeads + 2 * kKvHeads) * kDim;
  BackendOptions options = product::options(terms);
  options.kv_dtype = sizeof(Kv) == 2 ? KvDType::bf16 : KvDType::f32;
  const auto kernels = cuda::make_mma_kernels(options);
  NormCase norm(tokens, live, terms);
  Weights weights(*kernels, {MatrixShape::Use::qkv, 1, kRows, kHidden, false, kDim});
  GpuVector<LiveCounts> counts(std::vector<LiveCounts>{{live, 0, 0}});
  GpuVector<int32_t> position(std::vector<int32_t>{62, 63, 64}), sequence(zeros<int32_t>(3)), pages(std::vector<int32_t>{1, 0});
  GpuVector<float> cosines(normal_numbers(3 * kDim / 2, 5)), sines(normal_numbers(3 * kDim / 2, 6));
  const size_t page_values = size_t{kKvHeads} * 2 * kDim * kPageSlots;
  GpuVector<Kv> cache[2] = {GpuVector<Kv>(zeros<Kv>(2 * page_values)), GpuVector<Kv>(zeros<Kv>(2 * page_values))};
  GpuVector<float> y[2] = {GpuVector<float>(zeros<float>(size_t(tokens) * kRows)), GpuVector<float>(zeros<float>(size_t(tokens) * kRows))};
  GpuVector<uint16_t> bits(zeros<uint16_t>(size_t(tokens) * terms * kHidden));
  const NormArgs before = norm.args(bits);
  for (int fused : {0, 1}) {
    const AppendArgs append{.live = counts.data(), .position = position.data(), .sequence = sequence.data(), .rope_cos = cosines.data(),
                            .rope_sin = sines.data(), .qkv = y[fused].data(),
                            .kv = {.layer = reinterpret_cast<uint8_t*>(cache[fused].data()), .page_bytes = page_values * sizeof(Kv),
                                   .head_bytes = 2 * kDim * kPageSlots * sizeof(Kv), .pages = pages.data(), .table_pages = 2},
                            .heads = kHeads, .kv_heads = kKvHeads, .head_dim = kDim, .round_q = terms == 1};
    const LinearArgs args = weights.args(before, y[fused].data());
    if (fused) {
      if (!kernels->norm_qkv(before, args, append, product::to(tokens))) return INFINITY;
    } else {
      norm.run(bits, tokens);
      (void)kernels->qkv(args, append, product::to(tokens));
    }
  }
  return std::max(differ(y[0], y[1]), differ(cache[0], cache[1]));
}

// --- The router

struct RouteResults {
  GpuVector<uint16_t> bits;
  GpuVector<float> logits, weight;
  GpuVector<int32_t> choice, pairs, tile_count;
  GpuVector<ExpertTile> tiles;
  RouteResults(int tokens, int terms, int experts, int chosen)
      : bits(zeros<uint16_t>(size_t(tokens) * terms * kHidden)), logits(zeros<float>(size_t(tokens) * experts)),
        weight(zeros<float>(size_t(tokens) * chosen)), choice(zeros<int32_t>(size_t(tokens) * chosen)),
        pairs(zeros<int32_t>(size_t(tokens) * chosen)), tile_count(zeros<int32_t>(1)), tiles(zeros<ExpertTile>(size_t(tokens) * chosen)) {}
};

// In place of the kernels' own launch, where a fault is planted. `out`: null where attn_out is not in the kernel.
using StartRoute = void (*)(const LinearArgs* out, const LinearArgs&, const NormArgs&, const RouteFewArgs&, unsigned* counters,
                            int tile, int tiles);

double route(int tokens, int live, int terms, bool with_attn_out, StartRoute start = nullptr) {
  constexpr int kExperts = 48, kChosen = 4, kOutDepth = 192;
  const auto kernels = cuda::make_mma_kernels(product::options(terms));
  NormCase norms[2] = {{tokens, live, terms}, {tokens, live, terms}};
  Weights weights(*kernels, {MatrixShape::Use::router, 1, kExperts, kHidden, false});
  Weights out_weights(*kernels, {MatrixShape::Use::attn_out, 1, kHidden, kOutDepth, false});
  GpuVector<LiveCounts> counts(std::vector<LiveCounts>{{live, 0, 0}});
  GpuVector<uint8_t> scratch(zeros<uint8_t>(kScratch));
  GpuVector<uint16_t> attn(product::Rows(tokens, kOutDepth, terms, 11).bits);
  RouteResults apart(tokens, terms, kExperts, kChosen), fused(tokens, terms, kExperts, kChosen);
  const auto args = [&](RouteResults& r) {
    return RouteFewArgs{{.live = counts.data(), .logits = r.logits.data(), .choice = r.choice.data(), .weight = r.weight.data(),
                         .experts = kExperts, .chosen = kChosen},
                        {.live = counts.data(), .choice = r.choice.data(), .pairs = r.pairs.data(), .tiles = r.tiles.data(),
                         .tile_count = r.tile_count.data(), .experts = kExperts, .chosen = kChosen, .tile = 3}};
  };
  const auto out = [&](NormCase& norm) {
    return LinearArgs{.count = norm.count.data(), .weight = nullptr, .arranged = out_weights.arranged.data(), .bias = out_weights.bias.data(),
                      .x = {.values = nullptr, .terms = attn.data(), .size = kOutDepth, .count = terms, .round = false},
                      .y = norm.x.data(), .rows = kHidden, .k = kOutDepth, .add = true};
  };
  const std::vector<float> residual = norms[1].x.host();
  if (with_attn_out) kernels->linear(out(norms[0]), product::to(tokens));
  norms[0].run(apart.bits, tokens);
  kernels->linear(weights.args(norms[0].args(apart.bits), apart.logits.data()), product::to(tokens));
  const int threads = simt::group_threads(tokens * kChosen, kExperts);
  (void)simt::launch(simt::route_few, {.grid = 1, .block = dim3(threads), .dynamic_shared = simt::group_shared(kExperts, threads)}, args(apart));
  const NormArgs before = norms[1].args(fused.bits);
  MatrixKernels::Launch launch = product::to(tokens);
  launch.scratch = scratch.data();
  for (int round = 0; round < 2; ++round) {  // counters are left behind as they were found
    (void)cudaMemcpy(norms[1].x.data(), residual.data(), residual.size() * sizeof(float), cudaMemcpyHostToDevice);
    (void)cudaMemset(fused.choice.data(), 0xff, fused.choice.size() * sizeof(int32_t));
    (void)cudaMemset(fused.tile_count.data(), 0xff, sizeof(int32_t));
    const LinearArgs router = weights.args(before, fused.logits.data()), attn_out = out(norms[1]);
    if (start)
      start(with_attn_out ? &attn_out : nullptr, router, before, args(fused), reinterpret_cast<unsigned*>(scratch.data()), 8 / terms,
            (tokens + 8 / terms - 1) / (8 / terms));
    else if (with_attn_out ? !kernels->attn_out_route(attn_out, before, router, args(fused), launch)
                           : !kernels->route(before, router, args(fused), launch))
      return INFINITY;
  }
  if (live < tokens) (void)cudaMemset(fused.choice.data() + live * kChosen, 0, (tokens - live) * kChosen * sizeof(int32_t));
  return std::max({differ(norms[0].x, norms[1].x), differ(apart.bits, fused.bits), differ(apart.logits, fused.logits),
                   differ(apart.weight, fused.weight), differ(apart.choice, fused.choice), differ(apart.pairs, fused.pairs),
                   differ(apart.tile_count, fused.tile_count), differ(apart.tiles, fused.tiles)});
}

// --- The experts' second product

using StartDown = void (*)(const MoeArgs&, const CombineArgs&);

double down(int tokens, int live, int terms, StartDown start = nullptr) {
  using product::ExpertCase;
  const auto plain = cuda::make_mma_kernels(product::options(terms), false), few = cuda::make_mma_kernels(product::options(terms));
  const ExpertCase c(live, terms, plain->tile({}, tokens));
  const product::Rows h(tokens * c.kChosen, c.kDepth, terms, 8);
  product::OnDevice device(c, *plain);
  GpuVector<uint16_t> bits(h.bits);
  GpuVector<LiveCounts> counts(std::vector<LiveCounts>{{live, 0, 0}});
  const size_t pairs = size_t(tokens) * c.kChosen;
  GpuVector<float> y[2] = {GpuVector<float>(zeros<float>(pairs * c.rows)), GpuVector<float>(zeros<float>(pairs * c.rows))};
  const std::vector<float> before = normal_numbers(size_t(tokens) * c.rows, 9);
  GpuVector<float> residual[2] = {GpuVector<float>(before), GpuVector<float>(before)};
  GpuVector<float> weight(normal_numbers(pairs, 10));
  for (int fused : {0, 1}) {
    const MoeArgs args = device.args(c, bits.data(), {}, y[fused].data());
    const CombineArgs sum{.live = counts.data(), .y = y[fused].data(), .weight = weight.data(), .residual = residual[fused].data(),
                          .size = c.rows, .chosen = c.kChosen};
    if (fused && start) {
      start(args, sum);
    } else if (fused) {
      if (!few->moe_down(args, sum, product::to(tokens))) return INFINITY;
    } else {
      (void)plain->moe_down(args, sum, product::to(tokens));
      const int threads = simt::row_threads(c.rows);
      (void)simt::launch(simt::moe_combine, {.grid = simt::element_grid(tokens, c.rows), .block = dim3(threads)}, sum);
    }
  }
  return differ(residual[0], residual[1]);
}

// --- Planted

#define GPTOSS_ROUTE(space)                                                                                                  \
  [](const LinearArgs* out, const LinearArgs& a, const NormArgs& norm, const RouteFewArgs& route, unsigned* counters, int tile, \
     int tiles) {                                                                                                            \
    namespace k = gptoss::space;                                                                                             \
    using Shape = k::ProductShape<k::Bf16Units, 1>;                                                                          \
    (void)simt::allow_dynamic_shared(k::mma_product<k::Bf16Units, 1, k::RouteJob>, Shape::kShared);                          \
    (void)simt::allow_dynamic_shared(k::mma_attn_out_route<1>, Shape::kShared);                                                 \
    const k::RouteJob job{{k::LinearJob{a, tiles, tile}, norm, simt::row_threads(kHidden)}, route, counters,                 \
                          out ? counters + 1 : nullptr, out ? 2 : 0};                                                        \
    const simt::LaunchConfig config{.grid = dim3(out ? 6 : 4), .block = dim3(k::kProductThreads), .dynamic_shared = Shape::kShared}; \
    if (out)                                                                                                                 \
      (void)simt::launch(k::mma_attn_out_route<1>, config, k::OutRouteJob{{*out, tiles, tile}, job});                           \
    else                                                                                                                     \
      (void)simt::launch(k::mma_product<k::Bf16Units, 1, k::RouteJob>, config, job);                                         \
  }
#define GPTOSS_DOWN(space)                                                                                                   \
  [](const MoeArgs& a, const CombineArgs& sum) {                                                                             \
    namespace k = gptoss::space;                                                                                             \
    using Shape = k::ProductShape<k::Mxfp4Units, 1>;                                                                         \
    (void)simt::allow_dynamic_shared(k::mma_product<k::Mxfp4Units, 1, k::DownSumJob>, Shape::kShared);                       \
    (void)simt::launch(k::mma_product<k::Mxfp4Units, 1, k::DownSumJob>,                                                      \
                       {.grid = 2, .block = dim3(k::kProductThreads), .dynamic_shared = Shape::kShared}, k::DownSumJob{{{a}}, sum}); \
  }

void planted_route(const char* name, const std::vector<Kind>& kinds, StartRoute start, int terms = 1, int tokens = 2) {
  expect_caught(name, kinds, [=] { return route(tokens, tokens, terms, false, start); });
}
void planted_wait(const char* name, const std::vector<Kind>& kinds, StartRoute start) {
  expect_caught(name, kinds, [=] { return route(2, 2, 1, true, start); });
}
void planted_down(const char* name, const std::vector<Kind>& kinds, StartDown start) {
  expect_caught(name, kinds, [=] { return down(4, 4, 1, start); });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (const auto& [tokens, live] : {std::pair{1, 1}, {2, 1}, {2, 2}})
    for (int terms : {1, 3}) {
      expect_clean("qkv", [=] { return qkv<float>(tokens, live, terms); }, 1);
      expect_clean("qkv, a cache in bf16", [=] { return qkv<uint16_t>(tokens, live, terms); }, 1);
    }
  for (const auto& [tokens, live] : {std::pair{1, 1}, {2, 2}, {4, 3}, {8, 8}, {4, 0}})
    for (int terms : {1, 3}) {
      const int seeds = tokens == 2 ? 2 : 1;  // every run takes most of a second
      expect_clean("route", [=] { return route(tokens, live, terms, false); }, seeds);
      if (tokens * terms <= 8) expect_clean("attn_out and route", [=] { return route(tokens, live, terms, true); }, seeds);
      if (live > 0) expect_clean("moe_down", [=] { return down(tokens, live, terms); }, seeds);
    }
  planted_route("last block: counted before its stores are there", {Kind::kRace}, GPTOSS_ROUTE(few_no_fence));
  planted_route("last block: what was found not waited for", {Kind::kRace}, GPTOSS_ROUTE(few_no_slot_barrier));
  planted_route("last block: the counter not reset", {}, GPTOSS_ROUTE(few_not_reset));
  planted_route("last block: the first one", {Kind::kRace}, GPTOSS_ROUTE(few_first_block));
  planted_route("norm: no barrier before the squares are summed", {Kind::kRace}, GPTOSS_ROUTE(few_no_square_barrier));
  planted_route("norm: no barrier behind the scales", {Kind::kRace}, GPTOSS_ROUTE(few_no_scale_barrier));
  planted_route("norm: summed by fewer threads", {}, GPTOSS_ROUTE(few_other_order), 3, 8);
  planted_route("norm: the gain of another part of k", {}, GPTOSS_ROUTE(few_wrong_gain));
  planted_route("norm: the first term for all", {}, GPTOSS_ROUTE(few_wrong_term), 3);
  planted_route("route: choices not waited for", {Kind::kRace}, GPTOSS_ROUTE(few_no_choice_barrier));
  planted_wait("attn_out: counted before its stores are there", {Kind::kRace}, GPTOSS_ROUTE(few_no_count_fence));
  planted_wait("route: only one thread waits", {Kind::kRace}, GPTOSS_ROUTE(few_no_wait_barrier));
  planted_wait("route: nobody waits", {Kind::kRace}, GPTOSS_ROUTE(few_no_wait));
  planted_wait("route: one block is not waited for", {Kind::kRace}, GPTOSS_ROUTE(few_waits_for_one_less));
  planted_wait("route: the blocks waited for not forgotten", {Kind::kRace}, GPTOSS_ROUTE(few_awaited_not_reset));
  planted_down("moe_down: tiles not waited for", {Kind::kRace}, GPTOSS_DOWN(few_no_sum_barrier));
  planted_down("moe_down: added with each tile", {}, GPTOSS_DOWN(few_early_sum));
  planted_down("moe_down: a strip taken by two blocks", {Kind::kRace}, GPTOSS_DOWN(few_strip_twice));
  return harness::finish("mma_few_test");
}
