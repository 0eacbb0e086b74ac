// Products on matrix cores through the interface that the backend uses, against float64: one case for every
// vendor.
#pragma once

#include <functional>
#include <memory>

#include "gpu_vector.h"
#include "harness.h"
#include "simt/gpu_state.h"
#include "simt/matrix_kernels.h"

namespace product {

using namespace gptoss;
using harness::GpuVector;
using simt::MatrixShape;

using Make = std::unique_ptr<simt::MatrixKernels> (*)(const BackendOptions&);

inline float widen(uint16_t bits) { return simt::bf16_to_float(bits); }

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

  // What is left of the numbers in MXFP8, by the words of the OCP specification: a scale for each 32, which is the largest
  // power of two that is not above their largest magnitude, divided by 2^8; then the nearest of all numbers of e4m3.
  void become_mxfp8() {
    for (size_t first = 0; first < values.size(); first += 32) {
      double largest = 0;
      for (size_t i = first; i < first + 32; ++i) largest = std::max(largest, std::abs(values[i]));
      const double scale = largest == 0 ? 1 : std::exp2(std::floor(std::log2(largest)) - 8);
      for (size_t i = first; i < first + 32; ++i) {
        double best = 0, distance = HUGE_VAL;
        for (int code = 0; code < 127; ++code) {  // 126 is 448
          const double number = code < 8 ? std::ldexp(code, -9) : std::ldexp(8 + code % 8, code / 8 - 10);
          const double now = std::abs(number - std::abs(values[i]) / scale);
          if (now < distance || (now == distance && code % 2 == 0)) best = number, distance = now;
        }
        values[i] = std::copysign(best * scale, values[i]);
      }
    }
  }

  // The first terms times 2^-125, without others: some of them subnormal numbers.
  void become_tiny() {
    for (size_t row = 0; row < size_t(count); ++row)
      for (size_t n = 0; n < size_t(terms); ++n)
        for (size_t i = 0; i < size_t(size); ++i) {
          uint16_t& term = bits[(row * terms + n) * size + i];
          term = n == 0 ? simt::float_to_bf16(widen(term) * 0x1p-125f) : uint16_t{0};
          if (n == 0) values[row * size + i] = widen(term);
        }
  }
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

inline BackendOptions options(int terms) {
  BackendOptions o;
  o.precision = terms == 1 ? Precision::fast : Precision::exact;
  return o;
}
inline simt::MatrixKernels::Launch to(int tokens, uint8_t* scratch = nullptr) { return {nullptr, scratch, tokens, true}; }

// float32 sums of k products of about this size: tests/tolerances.py derives 2e-6 of the RMS, 1e-5 at most.
inline double tolerance(const std::vector<double>& expected) {
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

// Terms as a product reads them.
inline std::vector<uint16_t> lie(const Rows& x, bool stepped) {
  if (!stepped) return x.bits;
  std::vector<uint16_t> bits(x.bits.size());
  for (size_t first = 0; first < bits.size(); first += 32)  // see stepped_place()
    for (int step = 0; step < 2; ++step)
      for (int column = 0; column < 16; ++column)
        bits[first + 16 * step + column] = x.bits[first + column % 8 / 2 * 8 + 4 * step + column / 8 * 2 + column % 2];
  return bits;
}

// In place of the kernels' own launch, where a fault is planted.
using StartLinear = std::function<void(const LinearArgs&)>;

// y of the case by these kernels. Tokens that are not live keep what was there.
inline std::vector<float> linear_result(const simt::MatrixKernels& kernels, const LinearCase& c, const StartLinear& start = {}) {
  const int tokens = c.x.count, terms = c.x.terms;
  const MatrixShape shape{MatrixShape::Use::attn_out, 1, c.w.rows, c.w.k, false};
  const bool stepped = kernels.stepped(shape.use, {}, tokens);
  GpuVector<uint16_t> rows(c.w.bits), x(lie(c.x, stepped));
  GpuVector<uint8_t> arranged(kernels.bytes(shape));
  GpuVector<float> bias(c.bias), y(c.y);
  GpuVector<int32_t> count(std::vector<int32_t>{c.live});
  // In two pieces, as loading does.
  kernels.arrange(shape, {.expert = 0, .first = 0, .count = 21, .dense = rows.data()}, arranged.data(), nullptr);
  kernels.arrange(shape, {.expert = 0, .first = 21, .count = c.w.rows - 21, .dense = rows.data() + 21 * c.w.k}, arranged.data(),
                  nullptr);
  (void)GPU(DeviceSynchronize)();  // a product may read weights before what came right before it has ended
  const LinearArgs args{.count = count.data(), .weight = nullptr, .arranged = arranged.data(), .bias = bias.data(),
                        .x = {.values = nullptr, .terms = x.data(), .size = c.w.k, .count = terms, .round = false, .stepped = stepped},
                        .y = y.data(), .rows = c.w.rows, .k = c.w.k, .add = true};
  if (start)
    start(args);
  else
    kernels.linear(args, to(tokens));
  return y.host();
}
inline double linear(Make make, int tokens, int live, int terms, int k = 576, int rows = 48) {
  const LinearCase c(rows, k, tokens, live, terms);
  return harness::worst(linear_result(*make(options(terms)), c), c.expected, tolerance(c.expected));
}

// --- Experts: three, of which the second has no pair, the others as many as are given.

struct ExpertCase {
  static constexpr int kExperts = 3, kChosen = 2, kRows = 32, kDepth = 576;
  int rows;
  Mxfp4Matrix w;
  std::vector<float> bias = harness::normal_numbers(kExperts * rows, 6);
  std::vector<int32_t> pairs;
  std::vector<ExpertTile> tiles;
  int tokens, terms;
  ExpertCase(int tokens, int terms, int tile, int rows = kRows, int depth = kDepth)
      : rows(rows), w(kExperts, rows, depth, 5), tokens(tokens), terms(terms) {
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
  static Config config() {
    Config c;
    c.num_local_experts = kExperts;
    c.num_experts_per_tok = kChosen;
    return c;
  }
  double dot(int e, int r, const Rows& x, int row) const {
    double sum = bias[e * rows + r];
    for (int i = 0; i < w.k; ++i) sum += w(e, r, i) * x(row, i);
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
      for (const auto& [first, count] : {std::pair{0, 13}, {13, c.w.rows - 13}}) {  // in two pieces, as loading does
        const size_t at = e * weights + size_t(first) * c.w.k;
        kernels.arrange(shape(c), {.expert = e, .first = first, .count = count, .blocks = blocks.data() + at / 8,
                                   .scales = scales.data() + at / 32}, arranged.data(), nullptr);
      }
  }
  static MatrixShape shape(const ExpertCase& c) { return {MatrixShape::Use::gate_up, c.w.experts, c.w.rows, c.w.k, true}; }
  MoeArgs args(const ExpertCase& c, uint16_t* x, Operand h, float* y, bool stepped = false) {
    return {.tile_count = tile_count.data(), .tiles = tiles.data(), .pairs = pairs.data(),
            .experts = {.blocks = nullptr, .scales = nullptr, .dense = nullptr, .arranged = arranged.data(),
                        .bias = bias.data(), .rows = c.w.rows, .k = c.w.k, .experts = c.w.experts},
            .x = {.values = nullptr, .terms = x, .size = c.w.k, .count = c.terms, .round = false, .stepped = stepped},
            .h = h, .y = y, .chosen = ExpertCase::kChosen, .limit = 7.0f, .alpha = 1.702f};
  }
};

// What passes between the kernels of a call.
inline size_t scratch_bytes(const simt::MatrixKernels& kernels, int tokens) {
  Config config;
  config.hidden_size = config.intermediate_size = ExpertCase::kDepth;
  config.num_experts_per_tok = ExpertCase::kChosen;
  Limits limits;
  limits.max_tokens = tokens;
  return kernels.scratch_bytes(config, limits);
}

// In place of the kernels' own launch, where a fault is planted.
using Start = std::function<void(const MoeArgs&)>;

// What kernels multiply: activations as they come, what MXFP8 leaves of them, or some that are next to nothing.
enum class Seen { kAsGiven, kInMxfp8, kTiny };

inline double up(Make make, int tokens, int terms, Seen seen = Seen::kAsGiven, int rows = ExpertCase::kRows) {
  const auto kernels = make(options(terms));
  const ExpertCase c(tokens, terms, kernels->tile(ExpertCase::config(), tokens), rows);
  Rows x(tokens, c.kDepth, terms, 7);
  if (seen == Seen::kInMxfp8) x.become_mxfp8();
  const int neurons = rows / 2;
  std::vector<double> expected(size_t(tokens) * c.kChosen * neurons, 0.0);
  for (const ExpertTile& tile : c.tiles)
    for (int i = tile.first; i < tile.first + tile.count; ++i)
      for (int n = 0; n < neurons; ++n) {
        const double gate = std::min(c.dot(tile.expert, 2 * n, x, c.pairs[i] / c.kChosen), 7.0);
        const double u = std::clamp(c.dot(tile.expert, 2 * n + 1, x, c.pairs[i] / c.kChosen), -7.0, 7.0);
        expected[size_t(c.pairs[i]) * neurons + n] = gate / (1 + std::exp(-1.702 * gate)) * (u + 1);
      }
  OnDevice device(c, *kernels);
  const bool stepped = kernels->stepped(MatrixShape::Use::gate_up, ExpertCase::config(), tokens);
  GpuVector<uint16_t> bits(lie(x, stepped));
  GpuVector<float> h(std::vector<float>(expected.size(), 0.0f));
  const Operand to_h{.values = h.data(), .terms = nullptr, .size = neurons, .count = 0, .round = false};
  GpuVector<uint8_t> scratch(scratch_bytes(*kernels, tokens));
  kernels->moe_up(device.args(c, bits.data(), to_h, nullptr, stepped), to(tokens, scratch.data()));
  return harness::worst(h.host(), expected, 8 * tolerance(expected));  // swiglu's slope reaches 1 + limit
}

// y of the pairs, and what it should be.
struct DownResult {
  std::vector<float> y;
  std::vector<double> expected;
};
inline DownResult down_result(const simt::MatrixKernels& kernels, int tokens, int terms, const Start& start = {},
                              Seen seen = Seen::kAsGiven, int rows = ExpertCase::kRows, int depth = ExpertCase::kDepth) {
  const ExpertCase c(tokens, terms, kernels.tile(ExpertCase::config(), tokens), rows, depth);
  Rows h(tokens * c.kChosen, depth, terms, 8);
  if (seen == Seen::kInMxfp8) h.become_mxfp8();
  if (seen == Seen::kTiny) h.become_tiny();
  std::vector<double> expected(size_t(tokens) * c.kChosen * rows, 0.0);
  for (const ExpertTile& tile : c.tiles)
    for (int i = tile.first; i < tile.first + tile.count; ++i)
      for (int r = 0; r < rows; ++r) expected[size_t(c.pairs[i]) * rows + r] = c.dot(tile.expert, r, h, c.pairs[i]);
  OnDevice device(c, kernels);
  const bool stepped = kernels.stepped(MatrixShape::Use::down, ExpertCase::config(), tokens);
  GpuVector<uint16_t> bits(lie(h, stepped));
  GpuVector<float> y(std::vector<float>(expected.size(), 0.0f));
  GpuVector<uint8_t> scratch(scratch_bytes(kernels, tokens));
  const MoeArgs args = device.args(c, bits.data(), {}, y.data(), stepped);
  if (start)
    start(args);
  else
    (void)kernels.moe_down(args, {}, to(tokens, scratch.data()));
  return {y.host(), expected};
}
inline double down(Make make, int tokens, int terms, const Start& start = {}, Seen seen = Seen::kAsGiven,
                   int rows = ExpertCase::kRows, int depth = ExpertCase::kDepth) {
  const DownResult result = down_result(*make(options(terms)), tokens, terms, start, seen, rows, depth);
  return harness::worst(result.y, result.expected, tolerance(result.expected));
}

}  // namespace product
