// When products and attention are wgmma's, and over which grids they are launched.
#include "kernels.h"

#include <algorithm>
#include <stdexcept>

#include "attention.cuh"
#include "product.cuh"
#include "simt/gpu_state.h"
#include "tensor_map.h"

namespace gptoss::cuda {
namespace {

using simt::check;
using simt::MatrixShape;
using wgmma::Bf16Units;
using wgmma::Contiguous;
using wgmma::kColumns;
using wgmma::Mxfp4Units;

// Pairs of an expert, if all had as many, from which on cuda/mma would read its weights more than once: it has 48 columns.
constexpr int kLeastPairs = 49;
// Fewer tokens are a decode, whose steps are replayed from graphs.
constexpr int kLeastTokens = simt::kDecodeTokens + 1;

class WgmmaProducts : public WideProducts {
 public:
  WgmmaProducts(const BackendOptions& options, bool attention, int processors)
      : bf16_kv_(options.kv_dtype == KvDType::bf16), attention_(attention && bf16_kv_), processors_(processors) {
    allow<Bf16Units, Contiguous<LinearJob>>();
    allow<Bf16Units, Contiguous<QkvJob<float>>>();
    allow<Bf16Units, Contiguous<QkvJob<uint16_t>>>();
    allow<Mxfp4Units, UpJob>();
    allow<Mxfp4Units, DownJob>();
    check(simt::allow_dynamic_shared(wgmma::wgmma_attn_prefill, wgmma::PageRing::kBytes), "allowing a kernel its shared memory");
  }

  std::string name() const override {
    return "wgmma for products of more than " + std::to_string(kLeastTokens - 1) + " tokens, and of experts that have more than " +
           std::to_string(kLeastPairs - 1) + " each" +
           (attention_ ? ", and for attention where there are " + std::to_string(wgmma::kQueries) +
                             " queries of a KV head for each multiprocessor"
                       : "");
  }

  // The router multiplies what the experts multiply.
  bool take(MatrixShape::Use use, const Config& c, int tokens) const override {
    if (tokens < kLeastTokens) return false;
    using Use = MatrixShape::Use;
    if (use != Use::router && use != Use::gate_up && use != Use::down) return true;
    return int64_t{tokens} * c.num_experts_per_tok >= int64_t{kLeastPairs} * c.num_local_experts;
  }
  int tile() const override { return kColumns; }

  void linear(const LinearArgs& args, const Launch& launch) const override {
    start_contiguous("linear", linear_job(args, launch), launch);
  }
  void qkv(const LinearArgs& args, const AppendArgs& append, const Launch& launch) const override {
    const LinearJob job = linear_job(args, launch);
    if (bf16_kv_)
      start_contiguous("qkv", QkvJob<uint16_t>{job, append}, launch);
    else
      start_contiguous("qkv", QkvJob<float>{job, append}, launch);
  }
  void moe_up(const MoeArgs& args, const Launch& launch) const override {
    start<Mxfp4Units>("moe_up", UpJob{{args}}, most_pair_tiles(args, launch), args.experts.rows, launch);
  }
  void moe_down(const MoeArgs& args, const Launch& launch) const override {
    start<Mxfp4Units>("moe_down", DownJob{{args}}, most_pair_tiles(args, launch), args.experts.rows, launch);
  }

  // Where there are fewer blocks than multiprocessors, cuda/mma, whose tiles have 64 queries, has three times as many at work,
  // and mma.sync has more than a third of wgmma's rate. From one block for each on, none is idle here either.
  bool attn(const AttentionArgs& a, const Launch& launch) const override {
    const int tokens = wgmma::kQueries / (a.heads / a.kv_heads), tiles = (launch.tokens + tokens - 1) / tokens;
    if (!attention_ || launch.tokens < kLeastTokens || tiles * a.kv_heads < processors_) return false;
    wgmma::PrefillArgs args{a, {}};
    const size_t bytes = (a.kv.pool_pages - 1) * a.kv.page_bytes + a.kv_heads * a.kv.head_bytes;
    if (!make_tensor_map(&args.pages, a.kv.layer, bytes / wgmma::kPageRowBytes, kHeadDim, kHeadDim, wgmma::kPageRows, kHeadDim))
      throw std::runtime_error("the driver refuses a tensor map of a cache of " + std::to_string(a.kv.pool_pages) + " pages");
    check(simt::launch(wgmma::wgmma_attn_prefill,
                       {.grid = dim3(a.kv_heads, tiles), .block = dim3(wgmma::kAttnThreads),
                        .dynamic_shared = wgmma::PageRing::kBytes, .stream = launch.stream, .programmatic = launch.dependent},
                       args),
          "launching kernel wgmma_attn_prefill");
    return true;
  }

 private:
  static LinearJob linear_job(const LinearArgs& args, const Launch& launch) {
    return {args, (launch.tokens + kColumns - 1) / kColumns, kColumns};
  }
  // Blocks of a grid that have nothing to do end at once.
  static int most_pair_tiles(const MoeArgs& args, const Launch& launch) { return launch.tokens * args.chosen; }

  template <class Format, class Job>
  static void allow() {
    check(simt::allow_dynamic_shared(wgmma::wgmma_product<Format, Job>, wgmma::ProductShape<Format>::kShared),
          "allowing a kernel its shared memory");
  }
  template <class Job>
  void start_contiguous(const char* name, const Job& job, const Launch& launch) const {
    Contiguous<Job> whole{job, {}};
    if (!make_tensor_map(&whole.rows, job.a.x.terms, launch.tokens, job.a.k, job.a.k, kColumns, kUnitDepth))
      throw std::runtime_error("the driver refuses a tensor map of " + std::to_string(launch.tokens) + " rows of " +
                               std::to_string(job.a.k) + " columns, for a product of " + name);
    start<Bf16Units>(name, whole, job.tiles, job.a.rows, launch);
  }
  template <class Format, class Job>
  void start(const char* name, const Job& job, int tiles, int rows, const Launch& launch) const {
    const int rows_of_work = wgmma::kStrips * kStripRows, work = (rows + rows_of_work - 1) / rows_of_work * tiles;
    if (work == 0) return;
    check(simt::launch(wgmma::wgmma_product<Format, Job>,
                       {.grid = dim3(std::min(work, processors_)), .block = dim3(wgmma::kThreads),
                        .dynamic_shared = wgmma::ProductShape<Format>::kShared, .stream = launch.stream,
                        .programmatic = launch.dependent},
                       job),
          std::string("launching kernel wgmma_product of ") + name);
  }

  bool bf16_kv_, attention_;
  int processors_;
};

}  // namespace

std::unique_ptr<WideProducts> make_wgmma_products(const BackendOptions& options, bool attention) {
  if (options.precision != Precision::fast) return nullptr;
  int index = 0;
  check(cudaGetDevice(&index), "asking for the current card");
  cudaDeviceProp card;
  check(cudaGetDeviceProperties(&card, index), "asking for the card's properties");
  if (card.major != 9) return nullptr;
#if !defined(GPTOSS_EMULATOR)
  // Of a build for sm_90 without the "a" kernels are empty: those have a handful of registers.
  constexpr int kRegistersOfEmptyKernels = 32;
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, wgmma::wgmma_product<Mxfp4Units, UpJob>), "asking for a kernel's registers");
  if (attributes.numRegs <= kRegistersOfEmptyKernels) return nullptr;
#endif
  return std::make_unique<WgmmaProducts>(options, attention, card.multiProcessorCount);
}

}  // namespace gptoss::cuda
