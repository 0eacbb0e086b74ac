// The products of cuda/mma, through the interface that the backend uses, against float64; and faults planted in copies
// of their sources (cmake/PlantFaults.cmake).
#include "gpu_vector.h"
#include "harness.h"
#include "mma/kernels.h"
#include "mma/product.cuh"
#include "planted/mma.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;
using simt::MatrixShape;

float widen(uint16_t bits) { return simt::bf16_to_float(bits); }

// bf16 terms as kernels write them, and the same as a number: what the product has to multiply.
struct Rows {
  int count, size, terms;
  std::vector<uint16_t> bits;
  std::vector<double> values;
  Rows(int count, int size, int terms, uint64_t seed)
      : count(count), size(size), terms(terms), bits(size_t(count) * size * terms), values(size_t(count) * size) {
    const std::vector<float> x = harness::normal_numbers(values.size(), seed);
    for (int r = 0; r < count; ++r)
      for (int i = 0; i < size; ++i) {
        float left = x[size_t(r) * size + i];
        for (int n = 0; n < terms; ++n) {
          const uint16_t term = simt::float_to_bf16(left);
          bits[(size_t(r) * terms + n) * size + i] = term;
          values[size_t(r) * size + i] += widen(term);
          left -= widen(term);
        }
      }
  }
  double operator()(int r, int i) const { return values[size_t(r) * size + i]; }
};

struct Bf16Matrix {
  int rows, k;
  std::vector<uint16_t> bits;
  Bf16Matrix(int rows, int k, uint64_t seed) : rows(rows), k(k), bits(size_t(rows) * k) {
    const std::vector<float> w = harness::normal_numbers(bits.size(), seed);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = simt::float_to_bf16(w[i] * 0.25f);
  }
  double operator()(int r, int i) const { return widen(bits[size_t(r) * k + i]); }
};

// All codes; scales from 2^-6 to 2, and in the first row the smallest and some large ones.
struct Mxfp4Matrix {
  int experts, rows, k;
  std::vector<uint32_t> blocks;
  std::vector<uint8_t> scales;
  Mxfp4Matrix(int experts, int rows, int k, uint64_t seed)
      : experts(experts), rows(rows), k(k), blocks(size_t(experts) * rows * k / 8), scales(size_t(experts) * rows * k / 32) {
    emulator::Random random(seed);
    for (uint32_t& word : blocks) word = static_cast<uint32_t>(random.bits());
    for (uint8_t& scale : scales) scale = static_cast<uint8_t>(121 + random.bits() % 7);
    scales[0] = 0, scales[1] = 133;
  }
  double operator()(int e, int r, int i) const {
    constexpr double kMagnitude[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    const size_t at = (size_t(e) * rows + r) * k + i;
    const uint32_t code = blocks[at / 8] >> (4 * (at % 8)) & 15;
    return (code & 8 ? -1 : 1) * kMagnitude[code & 7] * std::ldexp(1.0, scales[at / 32] - 127);
  }
};

BackendOptions options(int terms) {
  BackendOptions o;
  o.precision = terms == 1 ? Precision::fast : Precision::exact;
  return o;
}
simt::MatrixKernels::Launch to(int tokens) { return {nullptr, nullptr, tokens, true}; }

// float32 sums of k products of about this size: tests/tolerances.py derives 2e-6 of the RMS, 1e-5 at most.
double tolerance(const std::vector<double>& expected) {
  double squares = 1e-30;
  for (double x : expected) squares += x * x;
  return 1e-5 * std::sqrt(squares / static_cast<double>(expected.size()));
}

struct LinearCase {
  Bf16Matrix w;
  Rows x;
  int live;
  std::vector<float> bias, y;
  std::vector<double> expected;
  LinearCase(int rows, int k, int tokens, int live, int terms)
      : w(rows, k, 1), x(tokens, k, terms, 2), live(live), bias(harness::normal_numbers(rows, 3)),
        y(harness::normal_numbers(size_t(tokens) * rows, 4)), expected(y.begin(), y.end()) {
    for (int t = 0; t < live; ++t)
      for (int r = 0; r < rows; ++r) {
        double sum = bias[r];
        for (int i = 0; i < k; ++i) sum += w(r, i) * x(t, i);
        expected[size_t(t) * rows + r] += sum;
      }
  }
};

// Tokens that are not live keep what was there.
double linear(int tokens, int live, int terms) {
  const LinearCase c(48, 576, tokens, live, terms);
  const auto kernels = cuda::make_mma_kernels(options(terms));
  const MatrixShape shape{MatrixShape::Use::attn_out, 1, c.w.rows, c.w.k, false};
  GpuVector<uint16_t> rows(c.w.bits), x(c.x.bits);
  GpuVector<uint8_t> arranged(kernels->bytes(shape));
  GpuVector<float> bias(c.bias), y(c.y);
  GpuVector<int32_t> count(std::vector<int32_t>{live});
  // In two pieces, as loading does.
  kernels->arrange(shape, {.expert = 0, .first = 0, .count = 21, .dense = rows.data()}, arranged.data(), nullptr);
  kernels->arrange(shape, {.expert = 0, .first = 21, .count = 27, .dense = rows.data() + 21 * c.w.k}, arranged.data(), nullptr);
  (void)cudaDeviceSynchronize();  // a product may read weights before what came right before it has ended
  kernels->linear({.count = count.data(), .weight = nullptr, .arranged = arranged.data(), .bias = bias.data(),
                   .x = {.values = nullptr, .terms = x.data(), .size = c.w.k, .count = terms, .round = false},
                   .y = y.data(), .rows = c.w.rows, .k = c.w.k, .add = true}, to(tokens));
  return harness::worst(y.host(), c.expected, tolerance(c.expected));
}

// --- Experts: three, of which the second has no pair, the others as many as are given.

struct ExpertCase {
  static constexpr int kExperts = 3, kChosen = 2, kRows = 32, kDepth = 192;
  Mxfp4Matrix w{kExperts, kRows, kDepth, 5};
  std::vector<float> bias = harness::normal_numbers(kExperts * kRows, 6);
  std::vector<int32_t> pairs;
  std::vector<ExpertTile> tiles;
  int tokens, terms;
  ExpertCase(int tokens, int terms, int tile) : tokens(tokens), terms(terms) {
    // Each token's first choice is expert 2 for two thirds of them, 0 otherwise; the second is the other one.
    std::vector<int32_t> of[kExperts];
    for (int t = 0; t < tokens; ++t) {
      of[t % 3 ? 2 : 0].push_back(t * kChosen);
      if (t % 4) of[t % 3 ? 0 : 2].push_back(t * kChosen + 1);
    }
    for (int e = 0; e < kExperts; ++e) {
      for (size_t from = 0; from < of[e].size(); from += tile)
        tiles.push_back({e, static_cast<int32_t>(pairs.size() + from), static_cast<int32_t>(std::min<size_t>(tile, of[e].size() - from))});
      pairs.insert(pairs.end(), of[e].begin(), of[e].end());
    }
  }
  double dot(int e, int r, const Rows& x, int row) const {
    double sum = bias[e * kRows + r];
    for (int i = 0; i < kDepth; ++i) sum += w(e, r, i) * x(row, i);
    return sum;
  }
};

struct OnDevice {
  GpuVector<uint32_t> blocks;
  GpuVector<uint8_t> scales, arranged;
  GpuVector<float> bias;
  GpuVector<int32_t> pairs, tile_count;
  GpuVector<ExpertTile> tiles;
  OnDevice(const ExpertCase& c, const simt::MatrixKernels& kernels)
      : blocks(c.w.blocks), scales(c.w.scales), arranged(kernels.bytes(shape(c))), bias(c.bias), pairs(c.pairs),
        tile_count(std::vector<int32_t>{static_cast<int32_t>(c.tiles.size())}), tiles(c.tiles) {
    const size_t weights = size_t(c.w.rows) * c.w.k;
    for (int e = 0; e < c.w.experts; ++e)
      kernels.arrange(shape(c), {.expert = e, .first = 0, .count = c.w.rows, .blocks = blocks.data() + e * weights / 8,
                                 .scales = scales.data() + e * weights / 32}, arranged.data(), nullptr);
  }
  static MatrixShape shape(const ExpertCase& c) { return {MatrixShape::Use::gate_up, c.w.experts, c.w.rows, c.w.k, true}; }
  MoeArgs args(const ExpertCase& c, uint16_t* x, Operand h, float* y) {
    return {.tile_count = tile_count.data(), .tiles = tiles.data(), .pairs = pairs.data(),
            .experts = {.blocks = nullptr, .scales = nullptr, .dense = nullptr, .arranged = arranged.data(),
                        .bias = bias.data(), .rows = c.w.rows, .k = c.w.k},
            .x = {.values = nullptr, .terms = x, .size = c.w.k, .count = c.terms, .round = false},
            .h = h, .y = y, .chosen = ExpertCase::kChosen, .limit = 7.0f, .alpha = 1.702f};
  }
};

using Start = void (*)(const MoeArgs&, int tokens, int terms);
void by_interface_up(const MoeArgs& a, int tokens, int terms) { cuda::make_mma_kernels(options(terms))->moe_up(a, to(tokens)); }
void by_interface_down(const MoeArgs& a, int tokens, int terms) {
  (void)cuda::make_mma_kernels(options(terms))->moe_down(a, {}, to(tokens));
}

double up(int tokens, int terms, Start start = by_interface_up) {
  const auto kernels = cuda::make_mma_kernels(options(terms));
  const ExpertCase c(tokens, terms, kernels->tile({}, tokens));
  const Rows x(tokens, c.kDepth, terms, 7);
  constexpr int kNeurons = ExpertCase::kRows / 2;
  std::vector<double> expected(size_t(tokens) * c.kChosen * kNeurons, 0.0);
  for (const ExpertTile& tile : c.tiles)
    for (int i = tile.first; i < tile.first + tile.count; ++i)
      for (int n = 0; n < kNeurons; ++n) {
        const double gate = std::min(c.dot(tile.expert, 2 * n, x, c.pairs[i] / c.kChosen), 7.0);
        const double u = std::clamp(c.dot(tile.expert, 2 * n + 1, x, c.pairs[i] / c.kChosen), -7.0, 7.0);
        expected[size_t(c.pairs[i]) * kNeurons + n] = gate / (1 + std::exp(-1.702 * gate)) * (u + 1);
      }
  OnDevice device(c, *kernels);
  GpuVector<uint16_t> bits(x.bits);
  GpuVector<float> h(std::vector<float>(expected.size(), 0.0f));
  start(device.args(c, bits.data(), {.values = h.data(), .terms = nullptr, .size = kNeurons, .count = 0, .round = false}, nullptr),
        tokens, terms);
  return harness::worst(h.host(), expected, 8 * tolerance(expected));  // swiglu's slope reaches 1 + limit
}

double down(int tokens, int terms, Start start = by_interface_down) {
  const auto kernels = cuda::make_mma_kernels(options(terms));
  const ExpertCase c(tokens, terms, kernels->tile({}, tokens));
  const Rows h(tokens * c.kChosen, c.kDepth, terms, 8);
  std::vector<double> expected(size_t(tokens) * c.kChosen * c.kRows, 0.0);
  for (const ExpertTile& tile : c.tiles)
    for (int i = tile.first; i < tile.first + tile.count; ++i)
      for (int r = 0; r < c.kRows; ++r) expected[size_t(c.pairs[i]) * c.kRows + r] = c.dot(tile.expert, r, h, c.pairs[i]);
  OnDevice device(c, *kernels);
  GpuVector<uint16_t> bits(h.bits);
  GpuVector<float> y(std::vector<float>(expected.size(), 0.0f));
  start(device.args(c, bits.data(), {}, y.data()), tokens, terms);
  return harness::worst(y.host(), expected, tolerance(expected));
}

// --- Planted

// The kernel of a namespace, one tile of columns, on two blocks.
#define GPTOSS_START(space)                                                                                           \
  [](const MoeArgs& a, int, int) {                                                                                    \
    namespace k = gptoss::space;                                                                                      \
    (void)simt::allow_dynamic_shared(k::mma_product<k::Mxfp4Units, 1, k::DownJob>,                                    \
                                     k::ProductShape<k::Mxfp4Units, 1>::kShared);                                     \
    (void)simt::launch(k::mma_product<k::Mxfp4Units, 1, k::DownJob>,                                                  \
                       {.grid = 2, .block = dim3(k::kProductThreads),                                                 \
                        .dynamic_shared = k::ProductShape<k::Mxfp4Units, 1>::kShared},                                \
                       k::DownJob{{a}});                                                                              \
  }

void planted(const char* name, const std::vector<Kind>& kinds, Start start) {
  expect_caught(name, kinds, [start] { return down(8, 1, start); });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  for (const auto& [tokens, live] : {std::pair{1, 1}, {4, 3}, {16, 11}, {32, 32}, {70, 70}})
    expect_clean("linear, fast", [=] { return linear(tokens, live, 1); }, 2);
  for (const auto& [tokens, live] : {std::pair{2, 1}, {8, 7}, {30, 30}})
    expect_clean("linear, exact", [=] { return linear(tokens, live, 3); }, 2);
  for (int tokens : {1, 7, 30, 66}) {
    expect_clean("moe_up, fast", [=] { return up(tokens, 1); }, 2);
    expect_clean("moe_down, fast", [=] { return down(tokens, 1); }, 2);
  }
  for (int tokens : {2, 9}) {
    expect_clean("moe_up, exact", [=] { return up(tokens, 3); }, 2);
    expect_clean("moe_down, exact", [=] { return down(tokens, 3); }, 2);
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
