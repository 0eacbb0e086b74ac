// Which matrices and shapes the kernels take, and over which grids they are launched.
#include "kernels.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "arrange.cuh"
#include "attention.cuh"
#include "product.cuh"
#include "scaled.cuh"
#include "simt/gpu_state.h"

namespace gptoss::hip {
namespace {

using simt::check;
using simt::MatrixRows;
using simt::MatrixShape;

template <int kStrips>
using Linear = simt::LinearJob<Layout, kStrips>;
template <int kStrips>
using Up = simt::UpJob<Layout, kStrips>;
template <int kStrips>
using Down = simt::DownJob<Layout, kStrips>;

// Tiles of 16 columns for which there is a kernel.
constexpr int kWidths[] = {1, 2, 4};
static_assert(kWidths[2] == kMostTiles);
static_assert(kSplitOfPages == kSplitPages, "kernels and engine cut the keys alike");

// The least width that holds so many sources in one item, or the largest.
int width_for(int sources, int terms) {
  for (int width : kWidths)
    if (kTileColumns * width / terms >= sources) return width;
  return kMostTiles;
}

class AmdKernels : public simt::MatrixKernels {
 public:
  AmdKernels(const BackendOptions& options, const char* instructions, bool scaled,
             const hipDeviceProp_t& card)
      : terms_(simt::operand_terms(options.precision)),
        instructions_(instructions),
        scaled_(scaled),
        attention_(terms_ == 1 && options.kv_dtype == KvDType::bf16),
        processors_(card.multiProcessorCount),
        threads_(kProductWaves * card.warpSize) {}

  std::string name() const override {
    return instructions_ +
           " for products whose k is a multiple of 32 and whose rows are one of 16, experts in MXFP4" +
           (scaled_ ? " by scaled MFMA, whose layout is not verified" : "") +
           (attention_
                ? ", and for attention with a head_dim of 64 and 1, 2, 4, 8 or 16 heads for each KV head"
                : "");
  }

  size_t bytes(const MatrixShape& s) const override {
    if (s.k % kUnitDepth != 0 || s.rows % kStripRows != 0 || s.mxfp4 != is_expert(s.use)) return 0;
    return static_cast<size_t>(s.experts) * expert_bytes(s);
  }

  void arrange(const MatrixShape& shape, const MatrixRows& from, uint8_t* to,
               hipStream_t stream) const override {
    const ArrangeArgs args{from, to + from.expert * expert_bytes(shape), shape.k};
    const size_t pieces = static_cast<size_t>(from.count) * shape.k / (shape.mxfp4 ? 32 : 8);
    const dim3 grid(static_cast<unsigned>((pieces + kArrangeThreads - 1) / kArrangeThreads));
    check(simt::launch(!shape.mxfp4 ? arrange_bf16
                       : scaled_    ? arrange_mxfp4<false>
                                    : arrange_mxfp4<true>,
                       {.grid = grid, .block = dim3(kArrangeThreads), .stream = stream}, args),
          "launching kernel arrange");
  }

  int tile(const Config&, int tokens) const override {
    return kTileColumns * width_for(tokens, terms_) / terms_;
  }

  void linear(const LinearArgs& args, const Launch& launch) const override {
    const int width = width_for(launch.tokens, terms_), tile = kTileColumns * width / terms_;
    const int tiles = (launch.tokens + tile - 1) / tile;
    start<Bf16Units, Linear>("linear", width, args.rows, tiles, launch,
                             [&](auto& job) { job.a = args, job.tiles = tiles, job.tile_tokens = tile; });
  }
  void moe_up(const MoeArgs& args, const Launch& launch) const override {
    experts<Up>("moe_up", args, launch);
  }
  bool moe_down(const MoeArgs& args, const CombineArgs&, const Launch& launch) const override {
    experts<Down>("moe_down", args, launch);
    return false;
  }
  // Few tokens have blocks of their own, and long contexts one for each split, as in SIMT; the bits are the
  // same.
  bool attn(const AttentionArgs& a, const Launch& launch) const override {
    const int group = a.heads / a.kv_heads;
    if (!attention_ || a.head_dim != kHeadDim || kTileColumns % group != 0) return false;
    const bool few = launch.tokens <= simt::kDecodeTokens;
    const MatrixAttentionArgs args{a, few ? 1 : kMostColumns / group};
    const dim3 grid((launch.tokens + args.tile - 1) / args.tile, a.kv_heads);
    if (!few || a.window > 0 || a.splits < 2) {
      start_attention(matrix_attention<kWhole>, grid, args, launch);
      return true;
    }
    start_attention(matrix_attention<kSplit>, dim3(grid.x, grid.y, a.splits), args, launch);
    start_attention(matrix_attention<kMerge>, grid, args, launch);
    return true;
  }

 private:
  void start_attention(void (*kernel)(MatrixAttentionArgs), dim3 grid, const MatrixAttentionArgs& args,
                       const Launch& launch) const {
    if (launch.tokens == 0) return;
    check(simt::launch(kernel,
                       {.grid = grid,
                        .block = dim3(kAttentionWaves * threads_ / kProductWaves),
                        .dynamic_shared = sizeof(AttentionShared),
                        .stream = launch.stream},
                       args),
          "launching kernel matrix_attention");
  }

  static bool is_expert(MatrixShape::Use use) {
    return use == MatrixShape::Use::gate_up || use == MatrixShape::Use::down;
  }
  static size_t expert_bytes(const MatrixShape& s) {
    return s.rows / kStripRows * (s.mxfp4 ? Layout::mxfp4_strip_bytes(s.k) : Layout::bf16_strip_bytes(s.k));
  }

  template <template <int> class Job>
  void experts(const char* name, const MoeArgs& args, const Launch& launch) const {
    // Every pair may have an expert of its own.
    const int width = width_for(launch.tokens, terms_), tiles = launch.tokens * args.chosen;
    const auto fill = [&](auto& job) { job.a = args; };
    if (scaled_) return start<ScaledMxfp4Units, Job>(name, width, args.experts.rows, tiles, launch, fill);
    start<Mxfp4Units, Job>(name, width, args.experts.rows, tiles, launch, fill);
  }

  // Two strips share what is read of activations, where there is more than a tile of them.
  template <class Format, template <int> class Job, class Fill>
  void start(const char* name, int width, int rows, int tiles, const Launch& launch, const Fill& fill) const {
    if (tiles == 0) return;
    if (width > 1 && rows % (2 * kStripRows) == 0)
      return start_strips<Format, Job, 2>(name, width, rows, tiles, launch, fill);
    start_strips<Format, Job, 1>(name, width, rows, tiles, launch, fill);
  }
  template <class Format, template <int> class Job, int kStrips, class Fill>
  void start_strips(const char* name, int width, int rows, int tiles, const Launch& launch,
                    const Fill& fill) const {
    Job<kStrips> job{};
    fill(job);
    const int items = rows / (kStrips * kStripRows) * tiles;
    if constexpr (kStrips == 1)
      if (width == 1) return start_kernel<Format, kStrips, 1>(name, job, items, launch);
    if (width == 2) return start_kernel<Format, kStrips, 2>(name, job, items, launch);
    start_kernel<Format, kStrips, kMostTiles>(name, job, items, launch);
  }
  template <class Format, int kStrips, int kTiles, class Job>
  void start_kernel(const char* name, const Job& job, int items, const Launch& launch) const {
    constexpr int kResident = 4;  // blocks of a compute unit: a wave or more for each of its four SIMDs
    check(simt::launch(matrix_product<Format, kStrips, kTiles, Job>,
                       {.grid = dim3(std::min(items, kResident * processors_)),
                        .block = dim3(threads_),
                        .dynamic_shared = ProductShape<kStrips, kTiles>::kShared,
                        .stream = launch.stream},
                       job),
          std::string("launching kernel matrix_product of ") + name);
  }

  int terms_;
  std::string instructions_;
  bool scaled_, attention_;
  int processors_, threads_;
};

// Null where there is none. As core.cuh chooses them.
const char* instructions_of(const std::string& architecture) {
  const auto is = [&](const char* prefix) { return architecture.rfind(prefix, 0) == 0; };
  if (is("gfx90a") || is("gfx942") || is("gfx950")) return "MFMA";
  if (is("gfx11") || is("gfx1200") || is("gfx1201")) return "WMMA";
  return nullptr;
}

}  // namespace

std::unique_ptr<simt::MatrixKernels> make_matrix_kernels(const BackendOptions& options) {
  int index = 0;
  check(hipGetDevice(&index), "asking for the current card");
  hipDeviceProp_t card;
  check(hipGetDeviceProperties(&card, index), "asking for the card's properties");
  const char* instructions = instructions_of(card.gcnArchName);
  // Only where it is asked for: no hardware has confirmed how the instruction lays out its operands.
  const char* wanted = std::getenv("GPTOSS_HIP_SCALED_MFMA");
  const bool scaled =
      std::strncmp(card.gcnArchName, "gfx950", 6) == 0 && wanted != nullptr && std::string(wanted) == "1";
  return instructions ? std::make_unique<AmdKernels>(options, instructions, scaled, card) : nullptr;
}

}  // namespace gptoss::hip
