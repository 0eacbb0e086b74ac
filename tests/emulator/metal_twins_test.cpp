// Every kernel of metal/ beside its namesake of csrc/simt: the same operands, and then the same numbers.
//
// Both are texts of one algorithm, with the same order of sums, so their results are the same bits, but for what one
// language has and the other has not: float64 (the rotary angles, log probabilities) and the matrix units' own sums.
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "gpu_vector.h"
#include "harness.h"
#include "matrix_shape.h"
#include "metal/library.h"
#include "metal/pairs.h"
#include "numeric.h"
#include "runtime/overlap.h"
#include "sample_shared.h"
#include "simt/attention.cuh"
#include "simt/ceilings.cuh"
#include "simt/embed.cuh"
#include "simt/grids.h"
#include "simt/linear.cuh"
#include "simt/moe.cuh"
#include "simt/norm.cuh"
#include "simt/qkv.cuh"
#include "simt/route.cuh"
#include "simt/sample.cuh"

namespace {

using namespace gptoss;
using harness::GpuVector;
using harness::normal_numbers;

// --- Operands

std::vector<uint16_t> bf16_numbers(size_t count, uint64_t seed, float scale = 1) {
  std::vector<uint16_t> bits(count);
  const std::vector<float> numbers = normal_numbers(count, seed);
  for (size_t i = 0; i < count; ++i) bits[i] = float_to_bf16(scale * numbers[i]);
  return bits;
}
template <class T>
std::vector<T> whole_numbers(size_t count, uint32_t below, uint64_t seed, uint32_t from = 0) {
  emulator::Random random(seed);
  std::vector<T> numbers(count);
  for (T& number : numbers) number = static_cast<T>(from + random.below(below));
  return numbers;
}
template <class T>
void put(GpuVector<T>& to, const std::vector<T>& values) {
  (void)cudaMemcpy(to.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
}
// What no kernel wrote stays not-a-number.
template <class T>
void spoil(GpuVector<T>& memory) {
  (void)cudaMemset(memory.data(), 0xff, memory.size() * sizeof(T));
}
// `data` as the element `index` of what begins there: in a model and a cache of many gigabytes a 32-bit offset would
// have wrapped.
template <class T>
T* at_index(T* data, size_t index) {
  return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(data) - index * sizeof(T));
}
constexpr size_t kFar = size_t{1} << 32;
const GpuVector<LiveCounts>& counts(int tokens, int rows = 0, int samples = 0) {
  static std::vector<GpuVector<LiveCounts>*> all;
  all.push_back(new GpuVector<LiveCounts>(std::vector<LiveCounts>{{tokens, rows, samples}}));
  return *all.back();
}
LiveCounts* live(int tokens, int rows = 0, int samples = 0) {
  return const_cast<GpuVector<LiveCounts>&>(counts(tokens, rows, samples)).data();
}

// --- Both kernels

constexpr int kThreads = simt::kBlockThreads;

template <class Args>
void run_cuda(void (*kernel)(Args), dim3 grid, int threads, size_t shared, const Args& args) {
  (void)simt::launch(kernel, {.grid = grid, .block = dim3(threads), .dynamic_shared = shared}, args);
  (void)cudaDeviceSynchronize();
}
template <class Args>
void run_metal(const char* name, dim3 grid, int threads, size_t shared, const Args& args) {
  emulator::run_launches(
      {emulator::metal::make_launch(name, grid, dim3(threads), (shared + 15) / 16 * 16, &args, sizeof args)});
}

// The largest difference; `tolerance` 0 asks for the same bits.
template <class T>
double difference(const std::vector<T>& a, const std::vector<T>& b, double tolerance) {
  if (std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0) return 0;
  double worst = tolerance == 0 ? 1e9 : 0;
  if constexpr (std::is_arithmetic_v<T>)
    for (size_t i = 0; i < a.size() && tolerance > 0; ++i) {
      const double one = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) / tolerance;
      if (!(one <= worst)) worst = std::isnan(one) ? 1e9 : one;  // what is compared next must not hide it
    }
  return worst;
}

// Runs `cuda`, then `metal`, each on fresh results, and compares these.
template <class T>
double twins(GpuVector<T>& result, const std::function<void()>& cuda, const std::function<void()>& metal,
             double tolerance = 0, const std::vector<T>* before = nullptr) {
  std::vector<T> results[2];
  for (int i = 0; i < 2; ++i) {
    if (before)
      put(result, *before);
    else
      spoil(result);
    (i == 0 ? cuda : metal)();
    results[i] = result.host();
  }
  return difference(results[0], results[1], tolerance);
}

// --- Cases: the largest error of each in units of its tolerance

Operand plain(float* values, int size, bool round = false) {
  return {.values = values, .terms = nullptr, .size = size, .count = 0, .round = round};
}

double norm_case(int size, bool round, bool rows_chosen) {
  constexpr int kTokens = 6;
  GpuVector<float> x(normal_numbers(kTokens * size, 1)), gain(normal_numbers(size, 2)),
      out(kTokens * size);
  GpuVector<int32_t> row(std::vector<int32_t>{4, 0, 2, 2, 5, 1});
  const NormArgs a{.count = &live(5)->tokens,
                   .row = rows_chosen ? row.data() : nullptr,
                   .x = x.data(),
                   .gain = gain.data(),
                   .out = plain(out.data(), size, round),
                   .eps = 1e-5f};
  const int threads = simt::row_threads(size);
  const dim3 rows(kTokens), elements = simt::element_grid(kTokens, size);
  double worst = twins<float>(
      out, [&] { run_cuda(simt::rmsnorm, rows, threads, simt::kRowShared, a); },
      [&] { run_metal("rmsnorm", rows, threads, simt::kRowShared, a); });
  const RoundArgs r{.count = &live(5)->tokens, .x = x.data(), .out = plain(out.data(), size, true)};
  return std::max(worst, twins<float>(
                             out, [&] { run_cuda(simt::round_rows, elements, threads, 0, r); },
                             [&] { run_metal("round_rows", elements, threads, 0, r); }));
}

double embed_case() {
  constexpr int kTokens = 5, kHidden = 600, kHalf = 150;  // both more than a block has threads
  GpuVector<uint16_t> table(bf16_numbers(9 * kHidden, 3));
  // Two rows go on with what the step before drew: a token, and an error in place of one.
  GpuVector<int32_t> token(std::vector<int32_t>{8, -2, 3, -1, 1}), drawn(std::vector<int32_t>{3, -1}),
      position(std::vector<int32_t>{0, 1, 4097, 131071, 64});
  std::vector<float> frequencies;
  for (int j = 0; j < kHalf; ++j)
    frequencies.push_back(static_cast<float>(std::pow(150000.0, -j / double{kHalf})));
  GpuVector<float> inv_freq(frequencies), residual(kTokens * kHidden), cosines(kTokens * kHalf),
      sines(kTokens * kHalf);
  const EmbedArgs a{.live = live(4),
                    .token = token.data(),
                    .position = position.data(),
                    .drawn = drawn.data(),
                    .embed_tokens = table.data(),
                    .inv_freq = inv_freq.data(),
                    .residual = residual.data(),
                    .rope_cos = cosines.data(),
                    .rope_sin = sines.data(),
                    .concentration = 1.3465736f,
                    .hidden_size = kHidden,
                    .half_dim = kHalf};
  const dim3 grid = simt::element_grid(kTokens, kHidden);
  const int threads = simt::row_threads(kHidden);
  const auto cuda = [&] { run_cuda(simt::embed, grid, threads, 0, a); };
  const auto metal = [&] { run_metal("embed", grid, threads, 0, a); };
  const std::vector<float> zeros(kTokens * kHalf, 0.0f);
  return std::max({twins<float>(residual, cuda, metal), twins<float>(cosines, cuda, metal, 4e-7, &zeros),
                   twins<float>(sines, cuda, metal, 4e-7, &zeros)});
}

double linear_case(int tokens, int rows, int k, bool with_bias, bool add) {
  GpuVector<float> x(normal_numbers(tokens * k, 4)), bias(normal_numbers(rows, 5)), y(tokens * rows);
  GpuVector<uint16_t> weight(bf16_numbers(rows * k, 6));
  const int alive = tokens > 1 ? tokens - 1 : tokens;
  const LinearArgs a{.count = &live(alive)->tokens,
                     .weight = weight.data(),
                     .arranged = nullptr,
                     .bias = with_bias ? bias.data() : nullptr,
                     .x = plain(x.data(), k),
                     .y = y.data(),
                     .rows = rows,
                     .k = k,
                     .add = add};
  const std::vector<float> before = normal_numbers(tokens * rows, 7);
  const dim3 grid = simt::linear_grid(rows, tokens);
  const auto cuda = [&] { run_cuda(simt::linear, grid, kThreads, 0, a); };
  const double plain = twins<float>(y, cuda, [&] { run_metal("linear", grid, kThreads, 0, a); }, 0, &before);
  const dim3 tiles((rows + kMatrixRows - 1) / kMatrixRows, (tokens + kMatrixTokens - 1) / kMatrixTokens);
  return std::max(plain, twins<float>(
                             y, cuda, [&] { run_metal("linear_matrix", tiles, 128, kMatrixShared, a); },
                             2e-6 * std::sqrt(k), &before));
}

struct Pages {  // of two sequences, in an order that is not that of their positions
  int head_dim, kv_heads, per_sequence;
  size_t element, head_bytes, page_bytes;
  GpuVector<uint8_t> memory;
  GpuVector<int32_t> table;
  Pages(int head_dim, int kv_heads, int per_sequence, size_t element)
      : head_dim(head_dim),
        kv_heads(kv_heads),
        per_sequence(per_sequence),
        element(element),
        head_bytes(2 * size_t{64} * head_dim * element),
        page_bytes(head_bytes * kv_heads + 512),
        memory(page_bytes * 2 * per_sequence),
        table(ids()) {}
  // The first page's number: those before it would fill more than 32 bits' worth of memory.
  int32_t first_id() const { return static_cast<int32_t>(kFar / page_bytes + 1); }
  std::vector<int32_t> ids() const {
    std::vector<int32_t> table(2 * per_sequence);
    for (size_t i = 0; i < table.size(); ++i) table[i] = first_id() + static_cast<int32_t>(table.size() - 1 - i);
    return table;
  }
  void fill() {
    const size_t count = memory.size() / element;
    const std::vector<float> numbers = normal_numbers(count, 8);
    std::vector<uint8_t> bytes(memory.size());
    for (size_t i = 0; i < count; ++i) {
      const uint16_t half = float_to_bf16(numbers[i]);
      std::memcpy(&bytes[i * element], element == 4 ? static_cast<const void*>(&numbers[i]) : &half, element);
    }
    put(memory, bytes);
  }
  KvArgs args() {
    return {.layer = at_index(memory.data() + 256, first_id() * page_bytes),
            .page_bytes = page_bytes,
            .head_bytes = head_bytes,
            .pages = table.data(),
            .table_pages = per_sequence};
  }
};

template <class Kv>
double append_case(int head_dim, bool round_q) {
  constexpr int kTokens = 4, kHeads = 4, kKvHeads = 2, kAll = kHeads + 2 * kKvHeads;
  Pages pages(head_dim, kKvHeads, 3, sizeof(Kv));
  GpuVector<int32_t> position(std::vector<int32_t>{0, 63, 64, 191}),
      sequence(std::vector<int32_t>{0, 1, 0, 1});
  GpuVector<float> cosines(normal_numbers(kTokens * head_dim / 2, 9)),
      sines(normal_numbers(kTokens * head_dim / 2, 10));
  const std::vector<float> qkv = normal_numbers(kTokens * kAll * head_dim, 11);
  GpuVector<float> x(qkv);
  const AppendArgs a{.live = live(kTokens),
                     .position = position.data(),
                     .sequence = sequence.data(),
                     .rope_cos = cosines.data(),
                     .rope_sin = sines.data(),
                     .qkv = x.data(),
                     .kv = pages.args(),
                     .heads = kHeads,
                     .kv_heads = kKvHeads,
                     .head_dim = head_dim,
                     .round_q = round_q};
  const dim3 grid = simt::warp_grid((kTokens + 1) * kAll);  // a token more than is live
  const auto cuda = [&] {
    put(x, qkv);
    run_cuda(simt::rotate_append<Kv>, grid, kThreads, 0, a);
  };
  const auto metal = [&] {
    put(x, qkv);
    run_metal(sizeof(Kv) == 4 ? "rotate_append_f32" : "rotate_append_bf16", grid, kThreads, 0, a);
  };
  return std::max(twins<uint8_t>(pages.memory, cuda, metal), twins<float>(x, cuda, metal));
}

template <class Kv>
double attention_case(int head_dim, int window, std::vector<int32_t> positions, bool splits, bool round) {
  constexpr int kHeads = 4, kKvHeads = 2, kAll = kHeads + 2 * kKvHeads;
  const int tokens = static_cast<int>(positions.size()),
            last = *std::max_element(positions.begin(), positions.end());
  Pages pages(head_dim, kKvHeads, last / 64 + 1, sizeof(Kv));
  pages.fill();
  std::vector<int32_t> sequences(tokens);
  for (int i = 0; i < tokens; ++i) sequences[i] = i % 2;
  GpuVector<int32_t> position(positions), sequence(sequences);
  GpuVector<float> qkv(normal_numbers(tokens * kAll * head_dim, 12)), sinks(normal_numbers(kHeads, 13));
  GpuVector<float> attn(tokens * kHeads * head_dim), lse(tokens * kHeads);
  const int split_count = (pages.per_sequence + 15) / 16;
  GpuVector<float> partial(static_cast<size_t>(tokens) * kHeads * split_count * (2 + head_dim));
  const AttentionArgs a{.live = live(tokens),
                        .position = position.data(),
                        .sequence = sequence.data(),
                        .qkv = qkv.data(),
                        .sinks = sinks.data(),
                        .kv = pages.args(),
                        .attn = attn.data(),
                        .lse = lse.data(),
                        .terms = nullptr,
                        .partial = partial.data(),
                        .splits = split_count,
                        .heads = kHeads,
                        .kv_heads = kKvHeads,
                        .head_dim = head_dim,
                        .window = window,
                        .scale = 0.25f,
                        .round_weights = round};
  const dim3 grid = simt::warp_grid((tokens + 1) * kHeads);  // a token more than is live
  const auto cuda = [&] { run_cuda(simt::attn<Kv>, grid, kThreads, simt::kAttentionShared, a); };
  const bool wide = sizeof(Kv) == 4;
  const auto metal = [&] {
    if (!splits) return run_metal(wide ? "attn_f32" : "attn_bf16", grid, kThreads, simt::kAttentionShared, a);
    run_metal(wide ? "attn_split_f32" : "attn_split_bf16", dim3(grid.x, split_count), kThreads,
              simt::kAttentionShared, a);
    run_metal("attn_merge", grid, kThreads, 0, a);
  };
  return std::max(twins<float>(attn, cuda, metal), twins<float>(lse, cuda, metal));
}

double route_case(int experts, int chosen, int threads) {
  constexpr int kTokens = 7;
  std::vector<float> values = normal_numbers(kTokens * experts, 14);
  for (int e = 0; e < experts; e += 2) values[e] = values[0];  // ties go to the lowest id
  GpuVector<float> logits(values), weight(kTokens * chosen);
  GpuVector<int32_t> choice(kTokens * chosen), pairs(kTokens * chosen), tile_count(1);
  GpuVector<ExpertTile> tiles(most_tiles(kTokens * chosen, experts));
  const RouteArgs r{.live = live(kTokens - 1),
                    .logits = logits.data(),
                    .choice = choice.data(),
                    .weight = weight.data(),
                    .experts = experts,
                    .chosen = chosen};
  const dim3 grid = simt::warp_grid(kTokens);
  const auto cuda = [&] { run_cuda(simt::choose, grid, kThreads, 0, r); };
  const auto metal = [&] { run_metal("choose", grid, kThreads, 0, r); };
  double worst = std::max(twins<float>(weight, cuda, metal), twins<int32_t>(choice, cuda, metal));
  const GroupArgs g{.live = live(kTokens - 1),
                    .choice = choice.data(),
                    .pairs = pairs.data(),
                    .tiles = tiles.data(),
                    .tile_count = tile_count.data(),
                    .experts = experts,
                    .chosen = chosen,
                    .tile = kTileTokens};
  const size_t shared = simt::group_shared(experts, threads);
  const auto cuda_groups = [&] {
    run_cuda(simt::group_pairs, dim3(1), threads, shared, g);
  };
  const auto metal_groups = [&] {
    run_metal("group_pairs", dim3(1), threads, shared, g);
  };
  worst = std::max(worst, twins<int32_t>(pairs, cuda_groups, metal_groups));
  worst = std::max(worst, twins<int32_t>(tile_count, cuda_groups, metal_groups));
  worst = std::max(worst, twins<ExpertTile>(tiles, cuda_groups, metal_groups, 0));
  const RouteFewArgs both{.route = r, .group = g};
  const auto cuda_few = [&] { run_cuda(simt::route_few, dim3(1), threads, shared, both); };
  const auto metal_few = [&] { run_metal("route_few", dim3(1), threads, shared, both); };
  return std::max({worst, twins<float>(weight, cuda_few, metal_few),
                   twins<int32_t>(choice, cuda_few, metal_few), twins<int32_t>(pairs, cuda_few, metal_few)});
}
double moe_case(int tokens, bool mxfp4, bool round) {
  constexpr int kExperts = 3, kChosen = 2, kInner = 96, kHidden = 64;
  const int pairs = tokens * kChosen;
  // Experts of very different sizes: tiles that are full, and one that is not.
  std::vector<int32_t> chosen(pairs);
  for (int p = 0; p < pairs; ++p) chosen[p] = p % 2 == 0 ? 2 : p % 7 == 1 ? 0 : 1;
  GpuVector<int32_t> choice(chosen), pair_list(pairs), tile_count(1);
  GpuVector<ExpertTile> tiles(most_tiles(pairs, kExperts));
  const GroupArgs g{.live = live(tokens),
                    .choice = choice.data(),
                    .pairs = pair_list.data(),
                    .tiles = tiles.data(),
                    .tile_count = tile_count.data(),
                    .experts = kExperts,
                    .chosen = kChosen,
                    .tile = kTileTokens};
  run_cuda(simt::group_pairs, dim3(1), 64, simt::group_shared(kExperts, 64), g);
  const std::vector<ExpertTile> near_tiles = tiles.host();
  const int tile_total = tile_count.host()[0];

  double worst = 0;
  for (bool up : {true, false}) {
    const int rows = up ? 2 * kInner : kHidden + 1, k = up ? kHidden : kInner;
    GpuVector<uint32_t> blocks(whole_numbers<uint32_t>(kExperts * rows * k / 8, 0xffffffff, 15));
    GpuVector<uint8_t> scales(whole_numbers<uint8_t>(kExperts * rows * k / 32, 8, 16, 117));
    GpuVector<uint16_t> dense(bf16_numbers(kExperts * rows * k, 17, 0.2f));
    GpuVector<float> bias(normal_numbers(kExperts * rows, 18)), x(normal_numbers(pairs * k, 19));
    GpuVector<float> y(static_cast<size_t>(pairs) * (up ? kInner : rows));
    // As if there were many experts before these.
    const int first_expert = static_cast<int>(kFar / (static_cast<size_t>(rows) * k) + 1);
    const size_t first_row = static_cast<size_t>(first_expert) * rows;
    std::vector<ExpertTile> far_tiles = near_tiles;
    for (int i = 0; i < tile_total; ++i) far_tiles[i].expert += first_expert;
    put(tiles, far_tiles);
    const MoeArgs a{.tile_count = tile_count.data(),
                    .tiles = tiles.data(),
                    .pairs = pair_list.data(),
                    .experts = {.blocks = mxfp4 ? at_index(blocks.data(), first_row * k / 8) : nullptr,
                                .scales = mxfp4 ? at_index(scales.data(), first_row * k / 32) : nullptr,
                                .dense = mxfp4 ? nullptr : at_index(dense.data(), first_row * k),
                                .arranged = nullptr,
                                .bias = at_index(bias.data(), first_row),
                                .rows = rows,
                                .k = k,
                                .experts = kExperts},
                    .x = plain(x.data(), k),
                    .h = plain(y.data(), kInner, round),
                    .y = y.data(),
                    .chosen = kChosen,
                    .limit = 7,
                    .alpha = 1.702f};
    const dim3 grid(simt::warp_grid(up ? kInner : rows).x, most_tiles(pairs, kExperts));
    const auto kernel = up ? (mxfp4 ? simt::moe_up<simt::Mxfp4Row> : simt::moe_up<simt::Bf16Row>)
                           : (mxfp4 ? simt::moe_down<simt::Mxfp4Row> : simt::moe_down<simt::Bf16Row>);
    const std::string name = up ? "moe_up" : "moe_down", format = mxfp4 ? "_mxfp4" : "_bf16";
    std::vector<float> results[3];
    for (int form = 0; form < 3; ++form) {
      spoil(y);
      if (form == 0) run_cuda(kernel, grid, kThreads, 0, a);
      if (form == 1) run_metal((name + format).c_str(), grid, kThreads, 0, a);
      const dim3 joined((rows + kMatrixRows - 1) / kMatrixRows, grid.y);
      if (form == 2) run_metal((name + "_matrix" + format).c_str(), joined, 128, kMatrixShared, a);
      results[form] = y.host();
    }
    const double on_units = round && up ? 0.3 : 1e-4;  // rounded to bf16, a last bit may fall to the other side
    worst = std::max({worst, difference(results[0], results[1], 0), difference(results[0], results[2], on_units)});
  }
  constexpr int kWidth = 160;  // more than a block has threads
  GpuVector<float> outputs(normal_numbers(pairs * kWidth, 20)), weight(normal_numbers(pairs, 21)),
      residual(tokens * kWidth);
  const CombineArgs c{.live = live(tokens),
                      .y = outputs.data(),
                      .weight = weight.data(),
                      .residual = residual.data(),
                      .size = kWidth,
                      .chosen = kChosen};
  const std::vector<float> before = normal_numbers(tokens * kWidth, 22);
  const dim3 grid = simt::element_grid(tokens + 1, kWidth);  // a token more than is live
  const int threads = simt::row_threads(kWidth);
  return std::max(worst, twins<float>(
                             residual, [&] { run_cuda(simt::moe_combine, grid, threads, 0, c); },
                             [&] { run_metal("moe_combine", grid, threads, 0, c); }, 0, &before));
}

double elementwise_case(bool round) {
  constexpr int kRows = 5, kSize = 64;
  GpuVector<float> u(normal_numbers(2 * kRows * kSize, 23)), out(kRows * kSize);
  const SwigluArgs s{.u = u.data(),
                     .out = out.data(),
                     .rows = kRows,
                     .size = kSize,
                     .limit = 1,
                     .alpha = 1.702f,
                     .round = round};
  const dim3 grid = simt::warp_grid(kRows);
  const double worst = twins<float>(
      out, [&] { run_cuda(simt::swiglu_rows, grid, kThreads, 0, s); },
      [&] { run_metal("swiglu_rows", grid, kThreads, 0, s); });
  GpuVector<uint32_t> blocks(whole_numbers<uint32_t>(kRows * kSize / 8, 0xffffffff, 24));
  GpuVector<uint8_t> scales(std::vector<uint8_t>{0, 1, 126, 127, 128, 200, 252, 2, 3, 4});
  const DequantizeArgs d{
      .blocks = blocks.data(), .scales = scales.data(), .out = out.data(), .rows = kRows, .k = kSize};
  return std::max(worst, twins<float>(
                             out, [&] { run_cuda(simt::dequantize_rows, grid, kThreads, 0, d); },
                             [&] { run_metal("dequantize_rows", grid, kThreads, 0, d); }));
}

// What the reading kernel sums up is told by its sink, which it writes where a thread's sum is -1: each of two threads, the
// first and the last one of the grid, has to have read all of its part, once.
double ceilings_case() {
  constexpr int kThreads = 64, kBlocks = 3, kAll = kThreads * kBlocks, kTurns = 4 * 2 + 1;
  double worst = 0;
  for (int thread : {0, kAll - 1}) {
    std::vector<float> numbers(4 * kAll * kTurns, 0.0f);
    for (int turn = 0; turn < kTurns; ++turn)  // -2^-1, -2^-2 and so on, and the last one again: each once makes -1
      numbers[4 * (kAll * turn + thread) + turn % 4] = -std::ldexp(1.0f, -std::min(turn + 1, kTurns - 1));
    GpuVector<float> data(numbers), sink(1);
    const ReadArgs a{.data = data.data(), .count = numbers.size(), .sink = sink.data()};
    worst = std::max(worst, twins<float>(
                                sink, [&] { run_cuda(simt::read, dim3(kBlocks), kThreads, 0, a); },
                                [&] { run_metal("read_ceiling", dim3(kBlocks), kThreads, 0, a); }));
    if (sink.host()[0] != -1) worst = INFINITY;
  }
  return worst;
}

// Pairs in place of float64, against it: exp to 2^-44 of itself and log to 2^-44 of what is larger, itself or 1.
double pairs_case() {
  constexpr int kCount = 4096;
  std::vector<float> numbers(2 * kCount);
  emulator::Random random(25);
  for (int i = 0; i < kCount; ++i) {
    const double x = i == 0 ? 0 : -std::exp2(static_cast<double>(random.below(60000)) / 60000 * 46 - 40);  // to -64
    numbers[2 * i] = static_cast<float>(x);
    numbers[2 * i + 1] = static_cast<float>(x - static_cast<double>(numbers[2 * i]));
  }
  GpuVector<float> x(numbers), exp(2 * kCount), log(2 * kCount);
  run_metal("exp_and_log", dim3(kCount / 256), 256, 0,
            PairsArgs{.x = x.data(), .exp = exp.data(), .log = log.data(), .count = kCount});
  const auto exps = exp.host(), logs = log.host();
  double worst = 0;
  for (int i = 0; i < kCount; ++i) {
    const auto value = [&](const std::vector<float>& of) { return double{of[2 * i]} + double{of[2 * i + 1]}; };
    const double e = std::exp(value(numbers)), l = std::log1p(-value(numbers));
    for (const double error : {std::abs(value(exps) - e) / e, std::abs(value(logs) - l) / std::max(l, 1.0)})
      worst = error * 0x1p44 <= worst ? worst : std::isnan(error) ? INFINITY : error * 0x1p44;
  }
  return worst;
}

double sample_case(uint64_t seed) {
  constexpr int kVocab = kSliceTokens + 176, kSamples = 11, kWords = (kVocab + 31) / 32, kTop = 20;
  constexpr int kFirstRow = static_cast<int>(kFar / kVocab + 1);  // as if there were many rows of logits before these
  std::vector<float> values = normal_numbers(kSamples * kVocab, seed);
  for (float& value : values) value *= 3;
  for (int v = 0; v < kVocab; v += 3) values[v] = values[0];  // many ties in the first row
  values[kSliceTokens + 30] = 30;                             // whose best token is in the second slice
  for (int v = 0; v < kVocab; ++v)
    values[2 * kVocab + v] = 5 - 0.01f * static_cast<float>(v % 20);  // masses that add up to many 2^32
  constexpr int kEdited = 37;  // the most probable token of the second sample, and what is drawn there
  values[kVocab + kEdited] = 20;
  for (int row : {6, 7, 8, 10})  // many best tokens: one more than top_k wins one draw in two
    for (int v = 0; v < kVocab; ++v) values[row * kVocab + v] = v % 5 == 0 ? 4.0f : v % 7 == 0 ? 4.0f : -4.0f;
  values[4 * kVocab + 300] = -NAN;  // the last of all in order, and yet nothing is drawn from such a row
  const auto params = [&](int row, float temperature, int top_k, float top_p, float min_p, int mask,
                          int first, int last, int logprobs) {
    return SampleParams{
        kFirstRow + row, temperature, top_p, min_p, top_k,   1.3f, 0.2f, 0.1f, {static_cast<uint32_t>(seed), 7},
        3,   first,       last,  mask,  logprobs};
  };
  GpuVector<SampleParams> sampling(std::vector<SampleParams>{
      params(0, 0.0f, 0, 1, 0, -1, 0, 0, 5), params(1, 1.0f, 0, 1, 0, 0, 0, 3, 1),
      params(2, 0.7f, 0, 0.08f, 0, -1, 0, 0, 20), params(3, 1.5f, 40, 0.8f, 0.01f, 1, 3, 8, -1),
      params(4, 1.0f, 1, 1, 0, -1, 0, 0, 1), params(5, 0.9f, 7, 1, 0.2f, 0, 0, 0, 2),
      params(6, 1.0f, 1, 1, 0, -1, 0, 0, -1), params(7, 1.0f, 1, 1, 0, -1, 0, 0, -1),
      params(8, 1.0f, 2, 0.3f, 0, -1, 0, 0, -1), params(9, 1.0f, 0, 1, 0, -1, 8, 9, 0),
      params(10, 5e-6f, 0, 1, 0, -1, 0, 0, -1)});
  std::vector<TokenEdit> edits;
  for (int i = 0; i < 8; ++i) edits.push_back({i * kEdited % kVocab, i % 2, i % 3, 0.5f * i, 0});
  edits.push_back({100, 0, 0, -NAN, 0});  // the model's logits are numbers there; this one, the last of all in order, is none
  GpuVector<TokenEdit> edit(edits);
  std::vector<uint32_t> allowed = whole_numbers<uint32_t>(2 * kWords, 0xffffffff, seed + 1);
  allowed[kEdited / 32] |= 1u << (kEdited % 32);
  GpuVector<uint32_t> masks(allowed);
  GpuVector<int32_t> position(std::vector<int32_t>{5, 0, 99, 131000, 1, 2, 7, 8, 9, 10, 11}),
      row(std::vector<int32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  GpuVector<float> logits(values), logprob(kSamples), top_logprob(kSamples * kTop);
  GpuVector<int32_t> next(kSamples), top(kSamples * kTop);
  const int slice_count = simt::sample_slices(kVocab);
  GpuVector<SampleSlice> slices(static_cast<size_t>(kSamples) * slice_count);
  GpuVector<GPTOSS_U64> bins(kSamples * kSampleBins);
  GpuVector<int32_t> collected(kSamples), candidates(kSamples * kVocab);
  const SampleArgs a{.live = live(kSamples, kSamples, kSamples),
                     .logits = at_index(logits.data(), size_t{kFirstRow} * kVocab),
                     .sampling = sampling.data(),
                     .edits = edit.data(),
                     .masks = masks.data(),
                     .position = position.data(),
                     .row = at_index(row.data(), kFirstRow),
                     .next_token = next.data(),
                     .logprob = logprob.data(),
                     .top_token = top.data(),
                     .top_logprob = top_logprob.data(),
                     .slices = slices.data(),
                     .bins = bins.data(),
                     .collected = collected.data(),
                     .candidates = candidates.data(),
                     .vocab = kVocab,
                     .mask_words = kWords,
                     .max_logprobs = kTop};
  const auto fresh = [&] {
    put(logits, values);
    put(edit, edits);
    spoil(next);
    spoil(top);
    put(logprob, std::vector<float>(kSamples, 0.0f));
    put(top_logprob, std::vector<float>(kSamples * kTop, 0.0f));
  };
  fresh();
  const dim3 grid(slice_count, kSamples + 1);  // a sample more than is live
  const size_t slots = kMaxWarps * sizeof(simt::U64);
  run_cuda(simt::sample_scan, grid, kSampleThreads, slots, a);
  run_cuda(simt::sample_weigh, grid, kSampleThreads, simt::weigh_shared(), a);
  run_cuda(simt::sample_collect, grid, kSampleThreads, slots, a);
  run_cuda(simt::sample_finish, dim3(kSamples + 1), kFinishThreads, sizeof(simt::FinishShared), a);
  const auto next_cuda = next.host(), top_cuda = top.host(), collected_cuda = collected.host();
  const auto logits_cuda = logits.host(), logprob_cuda = logprob.host(), top_logprob_cuda = top_logprob.host();
  fresh();
  spoil(slices);
  spoil(bins);
  spoil(collected);
  spoil(candidates);
  run_metal("sample_scan", grid, kSampleThreads, slots, a);
  run_metal("sample_weigh", grid, kSampleThreads, kWeighShared, a);
  run_metal("sample_collect", grid, kSampleThreads, slots, a);
  run_metal("sample_finish", dim3(kSamples + 1), kFinishThreads, sizeof(gptoss::FinishShared), a);
  return std::max({difference(next_cuda, next.host(), 0), difference(top_cuda, top.host(), 0),
                   difference(collected_cuda, collected.host(), 0),
                   difference(logits_cuda, logits.host(), 0), difference(logprob_cuda, logprob.host(), 2e-6),
                   difference(top_logprob_cuda, top_logprob.host(), 2e-6)});
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  using harness::expect_clean;
  const std::vector<int32_t> edges{0, 1, 63, 64, 126, 127, 128, 129};
  expect_clean("rmsnorm", [] { return norm_case(45, false, true); }, 1);
  expect_clean("rmsnorm to bf16", [] { return norm_case(700, true, false); }, 1);
  expect_clean("embed", embed_case, 1);
  expect_clean("linear, a tail of every size", [] { return linear_case(6, 37, 70, true, false); }, 1);
  expect_clean(
      "linear, added, more tokens than a tile", [] { return linear_case(35, 70, 36, true, true); }, 1);
  expect_clean("linear, one token, no bias", [] { return linear_case(1, 5, 258, false, false); }, 1);
  expect_clean("rotate_append f32", [] { return append_case<float>(16, false); }, 1);
  expect_clean("rotate_append bf16", [] { return append_case<uint16_t>(80, true); }, 1);
  expect_clean("attention, f32", [&] { return attention_case<float>(16, 0, edges, false, false); }, 1);
  expect_clean(
      "attention, a window of 128", [&] { return attention_case<float>(24, 128, edges, false, false); }, 1);
  expect_clean(
      "attention, bf16, a window of 1", [&] { return attention_case<uint16_t>(80, 1, edges, false, true); },
      1);
  expect_clean(
      "attention, bf16, 128 dimensions", [&] { return attention_case<uint16_t>(128, 0, {70}, false, true); },
      1);
  expect_clean(
      "attention in splits", [] { return attention_case<float>(16, 0, {1100, 63}, true, false); }, 1);
  expect_clean(
      "attention in splits, bf16", [] { return attention_case<uint16_t>(16, 0, {1024}, true, true); }, 1);
  expect_clean("route", [] { return route_case(7, 1, 64); }, 2);
  expect_clean("route, many experts", [] { return route_case(70, 8, 256); }, 1);
  expect_clean("experts, MXFP4", [] { return moe_case(7, true, false); }, 1);
  expect_clean("experts, MXFP4, to bf16, several tiles", [] { return moe_case(36, true, true); }, 1);
  expect_clean("experts, bf16", [] { return moe_case(7, false, false); }, 1);
  expect_clean("elementwise", [] { return elementwise_case(false); }, 1);
  expect_clean("elementwise to bf16", [] { return elementwise_case(true); }, 1);
  expect_clean("ceilings", ceilings_case, 1);
  expect_clean("pairs", pairs_case, 1);
  expect_clean("sample", [] { return sample_case(31); }, 1);
  expect_clean("sample, other logits", [] { return sample_case(77); }, 1);
  return harness::finish("metal_twins_test");
}
