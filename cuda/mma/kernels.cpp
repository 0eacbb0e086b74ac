// Which matrices and shapes the kernels of mma.sync take, and over which grids they are launched.
#include "kernels.h"

#include <algorithm>

#include "arrange.cuh"
#include "attention.cuh"
#include "product.cuh"
#include "simt/gpu_state.h"

namespace gptoss::cuda {
namespace {

using simt::check;
using simt::MatrixRows;
using simt::MatrixShape;

constexpr int kWidths[] = {1, 2, 4};  // tiles of eight columns for which there is a kernel
static_assert(kWidths[2] == kMostTiles);

// The least width that holds so many sources in one item, or the largest.
int width_for(int sources, int terms) {
  for (int width : kWidths)
    if (8 * width / terms >= sources) return width;
  return kMostTiles;
}

class MmaKernels : public simt::MatrixKernels {
 public:
  MmaKernels(const BackendOptions& options, const cudaDeviceProp& card, std::unique_ptr<WideProducts> wide)
      : wide_(std::move(wide)), terms_(simt::operand_terms(options.precision)), bf16_kv_(options.kv_dtype == KvDType::bf16), bf16_attention_(terms_ == 1 && bf16_kv_),
        processors_(card.multiProcessorCount),
        shared_(card.sharedMemPerMultiprocessor) {
    for_each_width([&]<int kTiles>() {
      allow<Bf16Units, kTiles, LinearJob>();
      allow<Bf16Units, kTiles, QkvJob<float>>();
      allow<Bf16Units, kTiles, QkvJob<uint16_t>>();
      allow<Mxfp4Units, kTiles, UpJob>();
      allow<Mxfp4Units, kTiles, DownJob>();
    });
    check(simt::allow_dynamic_shared(attn_decode, kDecodeShared), "allowing a kernel its shared memory");
    check(simt::allow_dynamic_shared(attn_prefill, kPrefillShared), "allowing a kernel its shared memory");
  }

  std::string name() const override {
    std::string text = "mma.sync for products whose k is a multiple of 64 and whose rows are one of 16, experts in MXFP4";
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
    check(simt::launch(shape.mxfp4 ? arrange_mxfp4 : arrange_bf16,
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
    const int width = width_for(launch.tokens, terms_), tile = 8 * width / terms_;
    const LinearJob job{args, (launch.tokens + tile - 1) / tile, tile};
    start<Bf16Units>("linear", width, job, args.rows / kStripRows * job.tiles, launch);
  }
  bool qkv(const LinearArgs& args, const AppendArgs& append, const Launch& launch) const override {
    if (args.x.stepped) {
      wide_->qkv(args, append, launch);
      return true;
    }
    const int width = width_for(launch.tokens, terms_), tile = 8 * width / terms_;
    const LinearJob job{args, (launch.tokens + tile - 1) / tile, tile};
    const int items = args.rows / kStripRows * job.tiles;
    if (bf16_kv_)
      start<Bf16Units>("qkv", width, QkvJob<uint16_t>{job, append}, items, launch);
    else
      start<Bf16Units>("qkv", width, QkvJob<float>{job, append}, items, launch);
    return true;
  }
  void moe_up(const MoeArgs& args, const Launch& launch) const override {
    if (args.x.stepped) return wide_->moe_up(args, launch);
    experts("moe_up", UpJob{{args}}, launch);
  }
  bool moe_down(const MoeArgs& args, const CombineArgs&, const Launch& launch) const override {
    if (args.x.stepped)
      wide_->moe_down(args, launch);
    else
      experts("moe_down", DownJob{{args}}, launch);
    return false;
  }

  size_t scratch_bytes(const Config& c, const Limits& limits) const override {
    if (!bf16_attention_) return 0;
    return size_t{sizeof(float)} * std::min(limits.max_tokens, simt::kDecodeTokens) * c.num_attention_heads * kMostSplits * kStateFloats;
  }
  bool attn(const AttentionArgs& a, const Launch& launch) const override {
    const int group = a.heads / a.kv_heads;
    if (!bf16_attention_ || a.head_dim != kHeadDim || 8 % group != 0) return false;
    const MmaAttentionArgs args{a, reinterpret_cast<float*>(launch.scratch)};
    const unsigned tokens = launch.tokens, kv_heads = a.kv_heads;
    if (launch.tokens > simt::kDecodeTokens) {
      const unsigned tile = kPrefillColumns / group;
      start("attn_prefill", attn_prefill, dim3((tokens + tile - 1) / tile, kv_heads), kPrefillShared, args, launch);
      return true;
    }
    const int pages = a.window > 0 ? std::min((a.window + kPage - 2) / kPage + 1, a.kv.table_pages) : a.kv.table_pages;
    const int splits = most_splits(pages);
    start("attn_decode", attn_decode, dim3(tokens, kv_heads, splits), kDecodeShared, args, launch);
    if (splits > 1)
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

  template <class F>
  static void for_each_width(const F& f) {
    f.template operator()<1>();
    f.template operator()<2>();
    f.template operator()<4>();
  }
  template <class Format, int kTiles, class Job>
  static void allow() {
    check(simt::allow_dynamic_shared(mma_product<Format, kTiles, Job>, ProductShape<Format, kTiles>::kShared),
          "allowing a kernel its shared memory");
  }

  template <class Job>
  void experts(const char* name, const Job& job, const Launch& launch) const {
    const int most = launch.tokens * job.a.chosen;  // tiles: every pair in one of its own
    start<Mxfp4Units>(name, width_for(launch.tokens, terms_), job, most * (job.a.experts.rows / kStripRows), launch);
  }

  // As many blocks as are on the card at a time: each goes from item to item with its rings full.
  template <class Format, class Job>
  void start(const char* name, int width, const Job& job, int items, const Launch& launch) const {
    if (items == 0) return;
    for_each_width([&]<int kTiles>() {
      if (kTiles != width) return;
      using Shape = ProductShape<Format, kTiles>;
      const int resident = std::clamp(static_cast<int>(shared_ / (Shape::kShared + 1024)), 1, Shape::kBlocks);
      const dim3 grid(std::min(items, resident * processors_));
      check(simt::launch(mma_product<Format, kTiles, Job>,
                         {.grid = grid, .block = dim3(kProductThreads), .dynamic_shared = Shape::kShared,
                          .stream = launch.stream, .programmatic = launch.dependent},
                         job),
            std::string("launching kernel mma_product of ") + name);
    });
  }

  std::unique_ptr<WideProducts> wide_;  // or null
  int terms_;
  bool bf16_kv_, bf16_attention_;
  int processors_;
  size_t shared_;
};

}  // namespace

std::unique_ptr<simt::MatrixKernels> make_mma_kernels(const BackendOptions& options, std::unique_ptr<WideProducts> wide) {
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
  return std::make_unique<MmaKernels>(options, card, std::move(wide));
}

}  // namespace gptoss::cuda
