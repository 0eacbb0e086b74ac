// Which matrices and shapes the kernels of mma.sync take, and over which grids they are launched.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "arrange.cuh"
#include "attention.cuh"
#include "product.cuh"
#include "scaled.cuh"
#include "simt/gpu_state.h"
#include "simt/grids.h"

namespace gptoss::cuda {

// Whether the machine code that was loaded is sm_120a's: only a kernel knows.
__global__ void has_block_scaled_mma(int* answer) { *answer = GPTOSS_HAS_BLOCK_SCALED_MMA; }

namespace {

using simt::check;
using simt::MatrixRows;
using simt::MatrixShape;

constexpr int kWidths[] = {1, 2, 4, 6};  // tiles of eight columns for which there is a kernel

constexpr int kCounters = 2 + simt::kDecodeTokens * 8;  // beyond these attention's splits are merged by a kernel of their own
constexpr size_t kCounterBytes = (kCounters * sizeof(unsigned) + 255) / 256 * 256;

// The least width that holds so many sources in one item, or the largest.
int width_for(int sources, int terms) {
  for (int width : kWidths)
    if (8 * width / terms >= sources) return width;
  return kWidths[3];
}

// Only where it is asked for: no card has confirmed how the instruction lays out its operands, and MXFP8 costs accuracy.
bool wants_block_scaled() {
  const char* wanted = std::getenv("GPTOSS_CUDA_BLOCK_SCALED");
  return wanted != nullptr && std::string(wanted) == "1";
}

class MmaKernels : public simt::MatrixKernels {
 public:
  MmaKernels(const BackendOptions& options, const cudaDeviceProp& card, bool fusion, std::unique_ptr<WideProducts> wide, bool scaled)
      : wide_(std::move(wide)), scaled_(scaled), terms_(simt::operand_terms(options.precision)), bf16_kv_(options.kv_dtype == KvDType::bf16),
        bf16_attention_(terms_ == 1 && bf16_kv_), fusion_(fusion),
        processors_(card.multiProcessorCount),
        shared_(card.sharedMemPerMultiprocessor) {
    allow<Bf16Units, LinearJob>();
    allow<Bf16Units, QkvJob<float>>();
    allow<Bf16Units, QkvJob<uint16_t>>();
    allow<Bf16Units, NormedQkvJob<float>>();
    allow<Bf16Units, NormedQkvJob<uint16_t>>();
    allow<Bf16Units, RouteJob>();
    allow<Mxfp4Units, UpJob>();
    allow<Mxfp4Units, DownJob>();
    allow<Mxfp4Units, DownSumJob>();
    if (scaled_) {
      allow<ScaledMxfp4Units, ScaledJob<UpJob>>();
      allow<ScaledMxfp4Units, ScaledJob<DownJob>>();
    }
    check(simt::allow_dynamic_shared(mma_attn_out_route<1>, ProductShape<Bf16Units, 1>::kShared), "allowing a kernel its shared memory");
    check(simt::allow_dynamic_shared(attn_decode, kDecodeShared), "allowing a kernel its shared memory");
    check(simt::allow_dynamic_shared(attn_prefill, kPrefillShared), "allowing a kernel its shared memory");
  }

  std::string name() const override {
    std::string text = "mma.sync for products whose k is a multiple of 64 and whose rows are one of 16, experts in MXFP4";
    if (scaled_)
      text += " by block-scaled mma.sync with activations in MXFP8, whose layout is not verified";
    else if (wants_block_scaled())
      text += " (not block-scaled: for that, precision=\"fast\", a card of sm_120 and a build for 120a)";
    if (bf16_attention_) text += ", and for attention with a head_dim of 64 and up to 8 heads for each KV head";
    if (wide_) text += "; " + wide_->name();
    return text;
  }

  size_t bytes(const MatrixShape& s) const override {
    if (s.use == MatrixShape::Use::qkv && s.head_dim % kStripRows != 0) return 0;
    if (s.k % kUnitDepth != 0 || s.rows % kStripRows != 0 || s.mxfp4 != is_expert(s.use)) return 0;
    return static_cast<size_t>(s.experts) * expert_bytes(s);
  }

  void arrange(const MatrixShape& shape, const MatrixRows& from, uint8_t* to, cudaStream_t stream) const override {
    const ArrangeArgs args{from, to + from.expert * expert_bytes(shape), shape.k, shape.head_dim};
    const size_t words = static_cast<size_t>(from.count) * shape.k / (shape.mxfp4 ? 8 : 2);
    const dim3 grid(static_cast<unsigned>((words + kArrangeThreads - 1) / kArrangeThreads));
    check(simt::launch(!shape.mxfp4 ? arrange_bf16 : scaled_ ? arrange_mxfp4<false> : arrange_mxfp4<true>,
                       {.grid = grid, .block = dim3(kArrangeThreads), .stream = stream}, args),
          "launching kernel arrange");
  }

  bool stepped(MatrixShape::Use use, const Config& config, int tokens) const override {
    return wide_ && wide_->take(use, config, tokens);
  }
  int tile(const Config& config, int tokens) const override {
    if (stepped(MatrixShape::Use::gate_up, config, tokens)) return wide_->tile();
    return 8 * width_for(tokens, terms_) / terms_;
  }

  void linear(const LinearArgs& args, const Launch& launch) const override {
    if (args.x.stepped) return wide_->linear(args, launch);
    const LinearJob job = linear_job(args, launch);
    start<Bf16Units>("linear", width_for(launch.tokens, terms_), job, args.rows / kStripRows * job.tiles, launch);
  }
  bool qkv(const LinearArgs& args, const AppendArgs& append, const Launch& launch) const override {
    if (args.x.stepped) {
      wide_->qkv(args, append, launch);
      return true;
    }
    if (bf16_kv_)
      start_qkv(width_for(launch.tokens, terms_), QkvJob<uint16_t>{linear_job(args, launch), append}, launch);
    else
      start_qkv(width_for(launch.tokens, terms_), QkvJob<float>{linear_job(args, launch), append}, launch);
    return true;
  }
  bool norm_qkv(const NormArgs& norm, const LinearArgs& args, const AppendArgs& append, const Launch& launch) const override {
    if (!fusion_ || launch.tokens > NormedQkvJob<float>::kNormRows) return false;
    const int threads = simt::row_threads(args.k);
    if (bf16_kv_)
      start_qkv(1, NormedQkvJob<uint16_t>{{linear_job(args, launch), append}, norm, threads}, launch);
    else
      start_qkv(1, NormedQkvJob<float>{{linear_job(args, launch), append}, norm, threads}, launch);
    return true;
  }
  bool route(const NormArgs& norm, const LinearArgs& args, const RouteFewArgs& route, const Launch& launch) const override {
    if (!may_route(route, launch)) return false;
    start<Bf16Units>("route", 1, route_job(norm, args, route, launch), route_blocks(args, launch), launch);
    return true;
  }
  bool attn_out_route(const LinearArgs& out, const NormArgs& norm, const LinearArgs& args, const RouteFewArgs& route,
                      const Launch& launch) const override {
    if (!may_route(route, launch) || width_for(launch.tokens, terms_) > 1) return false;
    using Shape = ProductShape<Bf16Units, 1>;
    const int routes = route_blocks(args, launch), most = resident<Shape>() * processors_;
    OutRouteJob both{linear_job(out, launch), route_job(norm, args, route, launch)};
    both.route.awaited = counters(launch) + 1;
    both.route.attn_out_blocks = std::min(out.rows / kStripRows, std::max(most - routes, 1));
    check(simt::launch(mma_attn_out_route<1>, {.grid = dim3(both.route.attn_out_blocks + routes), .block = dim3(kProductThreads),
                                            .dynamic_shared = Shape::kShared, .stream = launch.stream,
                                            .programmatic = launch.dependent}, both),
          "launching kernel mma_attn_out_route");
    return true;
  }
  void moe_up(const MoeArgs& args, const Launch& launch) const override {
    if (args.x.stepped) return wide_->moe_up(args, launch);
    if (scaled_) return scaled_experts<UpJob>("moe_up", quantize_mxfp8<true>, args, launch);
    experts<Mxfp4Units>("moe_up", UpJob{{args}}, launch);
  }
  bool moe_down(const MoeArgs& args, const CombineArgs& sum, const Launch& launch) const override {
    if (args.x.stepped) {
      wide_->moe_down(args, launch);
      return false;
    }
    if (scaled_) {
      scaled_experts<DownJob>("moe_down", quantize_mxfp8<false>, args, launch);
      return false;
    }
    if (!fusion_ || launch.tokens > kFewTokens) {
      experts<Mxfp4Units>("moe_down", DownJob{{args}}, launch);
      return false;
    }
    start<Mxfp4Units>("moe_down", width_for(launch.tokens, terms_), DownSumJob{{{args}}, sum}, args.experts.rows / kStripRows,
                      launch);
    return true;
  }

  // Counters, then partial sums of attention.
  size_t scratch_bytes(const Config& c, const Limits& limits) const override {
    const size_t tokens = std::min(limits.max_tokens, simt::kDecodeTokens);
    size_t bytes = 0;  // of one or of the other: what is in it is read by the next kernel and by no later one
    if (bf16_attention_) bytes = tokens * c.num_attention_heads * kMostSplits * kStateFloats * sizeof(float);
    if (scaled_)
      bytes = std::max(bytes, static_cast<size_t>(limits.max_tokens) * c.num_experts_per_tok *
                                  Mxfp8Rows::pitch(std::max(c.hidden_size, c.intermediate_size)));
    return kCounterBytes + bytes;
  }
  bool attn(const AttentionArgs& a, const Launch& launch) const override {
    const int group = a.heads / a.kv_heads;
    if (!bf16_attention_ || a.head_dim != kHeadDim || 8 % group != 0) return false;
    if (wide_ && wide_->attn(a, launch)) return true;
    const bool merged = fusion_ && launch.tokens * a.kv_heads <= kCounters - 2;
    const MmaAttentionArgs args{a, reinterpret_cast<float*>(launch.scratch + kCounterBytes),
                                merged ? counters(launch) + 2 : nullptr};
    const unsigned tokens = launch.tokens, kv_heads = a.kv_heads;
    if (launch.tokens > simt::kDecodeTokens) {
      const unsigned tile = kPrefillColumns / group;
      start("attn_prefill", attn_prefill, dim3((tokens + tile - 1) / tile, kv_heads), kPrefillShared, args, launch);
      return true;
    }
    const int pages = a.window > 0 ? std::min((a.window + kPage - 2) / kPage + 1, a.kv.table_pages) : a.kv.table_pages;
    const int splits = most_splits(pages);
    start("attn_decode", attn_decode, dim3(tokens, kv_heads, splits), kDecodeShared, args, launch);
    if (splits > 1 && !merged)
      start("attn_merge_splits", attn_merge_splits, dim3((tokens * a.heads + kAttnWarps - 1) / kAttnWarps), 0, args, launch);
    return true;
  }

 private:
  void start(const char* name, void (*kernel)(MmaAttentionArgs), dim3 grid, size_t shared, const MmaAttentionArgs& args,
             const Launch& launch) const {
    check(simt::launch(kernel, {.grid = grid, .block = dim3(kAttnThreads), .dynamic_shared = shared, .stream = launch.stream,
                                .programmatic = launch.dependent}, args),
          std::string("launching kernel ") + name);
  }

  static bool is_expert(MatrixShape::Use use) { return use == MatrixShape::Use::gate_up || use == MatrixShape::Use::down; }
  static size_t expert_bytes(const MatrixShape& s) { 
    return s.rows / kStripRows * (s.mxfp4 ? Layout::mxfp4_strip_bytes(s.k) : Layout::bf16_strip_bytes(s.k));
  }

  // The widths that there is a kernel of this job for.
  template <class Job, class F>
  static void for_each_width(const F& f) {
    [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
      const auto call = [&]<int kTiles>() {
        if constexpr (kTiles <= most_tiles<Job>()) f.template operator()<kTiles>();
      };
      (call.template operator()<kWidths[kIndex]>(), ...);
    }(std::make_index_sequence<std::size(kWidths)>());
  }
  template <class Format, class Job>
  static void allow() {
    for_each_width<Job>([&]<int kTiles>() {
      check(simt::allow_dynamic_shared(mma_product<Format, kTiles, Job>, ProductShape<Format, kTiles>::kShared),
            "allowing a kernel its shared memory");
    });
  }

  LinearJob linear_job(const LinearArgs& args, const Launch& launch) const {
    const int tile = 8 * width_for(launch.tokens, terms_) / terms_;
    return {args, (launch.tokens + tile - 1) / tile, tile};
  }
  bool may_route(const RouteFewArgs& route, const Launch& launch) const {
    const size_t shared = simt::group_shared(route.group.experts, kProductThreads);
    return fusion_ && launch.tokens <= kFewTokens && shared <= ProductShape<Bf16Units, 1>::kPartialBytes;
  }
  RouteJob route_job(const NormArgs& norm, const LinearArgs& args, const RouteFewArgs& route, const Launch& launch) const {
    const int tile = 8 / terms_;
    return {{{args, (launch.tokens + tile - 1) / tile, tile}, norm, simt::row_threads(args.k)}, route, counters(launch)};
  }
  // Some have nothing to multiply: they help to write the experts' activations.
  int route_blocks(const LinearArgs& args, const Launch& launch) const {
    return args.rows / kStripRows * ((launch.tokens * terms_ + 7) / 8) + 2 * launch.tokens;
  }
  template <class Job>
  void start_qkv(int width, const Job& job, const Launch& launch) const {
    start<Bf16Units>("qkv", width, job, job.a.rows / kStripRows * job.tiles, launch);
  }
  // Of blocks that have arrived: the first two are the router's and attn_out's, the others attention's.
  static unsigned* counters(const Launch& launch) { return reinterpret_cast<unsigned*>(launch.scratch); }

  template <class Format, class Job>
  void experts(const char* name, const Job& job, const Launch& launch) const {
    const int most = launch.tokens * job.a.chosen;  // tiles: every pair in one of its own
    start<Format>(name, width_for(launch.tokens, terms_), job, most * (job.a.experts.rows / kStripRows), launch);
  }

  template <class Job>
  void scaled_experts(const char* name, void (*quantize)(QuantizeArgs), const MoeArgs& args, const Launch& launch) const {
    const Mxfp8Rows rows{launch.scratch + kCounterBytes};
    const size_t pieces = static_cast<size_t>(launch.tokens) * args.chosen * args.experts.k / 8;
    if (pieces == 0) return;
    const dim3 grid(static_cast<unsigned>((pieces + kQuantizeThreads - 1) / kQuantizeThreads));
    check(simt::launch(quantize, {.grid = grid, .block = dim3(kQuantizeThreads), .stream = launch.stream,
                                  .programmatic = launch.dependent}, QuantizeArgs{args, rows}),
          std::string("launching kernel quantize_mxfp8 of ") + name);
    experts<ScaledMxfp4Units>(name, ScaledJob<Job>{{{args}}, rows}, launch);
  }

  template <class Shape>
  int resident() const {
    return std::clamp(static_cast<int>(shared_ / (Shape::kShared + 1024)), 1, Shape::kBlocks);
  }
  // As many blocks as are on the card at a time: each goes from item to item with its rings full.
  template <class Format, class Job>
  void start(const char* name, int width, const Job& job, int items, const Launch& launch) const {
    if (items == 0) return;
    for_each_width<Job>([&]<int kTiles>() {
      if (kTiles != width) return;
      using Shape = ProductShape<Format, kTiles>;
      const dim3 grid(std::min(items, resident<Shape>() * processors_));
      check(simt::launch(mma_product<Format, kTiles, Job>,
                         {.grid = grid, .block = dim3(kProductThreads), .dynamic_shared = Shape::kShared,
                          .stream = launch.stream, .programmatic = launch.dependent},
                         job),
            std::string("launching kernel mma_product of ") + name);
    });
  }

  std::unique_ptr<WideProducts> wide_;  // or null
  bool scaled_;
  int terms_;
  bool bf16_kv_, bf16_attention_, fusion_;
  int processors_;
  size_t shared_;
};

bool block_scaled_works(const BackendOptions& options) {
  if (options.precision != Precision::fast) return false;
  const simt::DeviceMemory answer(sizeof(int), "asking for block-scaled products");
  int has = 0;
  check(simt::launch(has_block_scaled_mma, {.grid = 1, .block = 1}, reinterpret_cast<int*>(answer.data())),
        "launching kernel has_block_scaled_mma");
  check(cudaMemcpy(&has, answer.data(), sizeof has, cudaMemcpyDeviceToHost), "asking for block-scaled products");
  return has != 0;
}

}  // namespace

std::unique_ptr<simt::MatrixKernels> make_mma_kernels(const BackendOptions& options, bool fusion, std::unique_ptr<WideProducts> wide) {
  int index = 0;
  check(cudaGetDevice(&index), "asking for the current card");
  cudaDeviceProp card;
  check(cudaGetDeviceProperties(&card, index), "asking for the card's properties");
  if (card.major < 8) return nullptr;
#if !defined(GPTOSS_EMULATOR)
  // What the driver made of the PTX of an older architecture has empty kernels here.
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, mma_product<Bf16Units, 1, LinearJob>), "asking for a kernel's architecture");
  if (attributes.ptxVersion < 80) return nullptr;
#endif
  const bool scaled = wants_block_scaled() && block_scaled_works(options);
  return std::make_unique<MmaKernels>(options, card, fusion, scaled ? nullptr : std::move(wide), scaled);
}

}  // namespace gptoss::cuda
