// When experts' products are tcgen05's, and over which grids they are launched.
#include "kernels.h"

#include <algorithm>
#include <stdexcept>

#include "arrange.cuh"
#include "product.cuh"
#include "simt/gpu_state.h"
#include "tensor_map.h"

namespace gptoss::cuda {
namespace tcgen05 {

// Whether the machine code that was loaded is sm_100a's: only a kernel knows.
__global__ void has_tcgen05(int* answer) { *answer = GPTOSS_HAS_TCGEN05; }

}  // namespace tcgen05

namespace {

using simt::check;
using simt::MatrixRows;
using simt::MatrixShape;
using tcgen05::Blocks;
using tcgen05::kBlockBytes;
using tcgen05::ProductShape;

// Pairs of a tile: those of a step of few tokens, and of many.
constexpr int kFewColumns = 32, kColumns = 128;

class Tcgen05Products : public ScaledProducts {
 public:
  explicit Tcgen05Products(int processors) : processors_(processors) {
    allow<kFewColumns, UpJob>();
    allow<kFewColumns, DownJob>();
    allow<kColumns, UpJob>();
    allow<kColumns, DownJob>();
  }

  std::string name() const override { return "tcgen05"; }
  size_t expert_bytes(int rows, int k) const override { return tcgen05::expert_blocks(rows, k) * kBlockBytes; }

  void arrange(const MatrixShape& shape, const MatrixRows& from, uint8_t* to, cudaStream_t stream) const override {
    const tcgen05::ArrangeArgs args{from, to + from.expert * expert_bytes(shape.rows, shape.k), shape.k};
    const size_t words = static_cast<size_t>(from.count) * shape.k / 8;
    const dim3 grid(static_cast<unsigned>((words + tcgen05::kArrangeThreads - 1) / tcgen05::kArrangeThreads));
    check(simt::launch(tcgen05::arrange_blocks, {.grid = grid, .block = dim3(tcgen05::kArrangeThreads), .stream = stream}, args),
          "launching kernel arrange_blocks");
  }

  int tile(int tokens) const override { return tokens <= kFewColumns ? kFewColumns : kColumns; }

  void moe_up(const MoeArgs& args, uint8_t* rows, const Launch& launch) const override {
    start<UpJob>("moe_up", quantize_mxfp8<true, AscendingOrder>, args, rows, launch);
  }
  void moe_down(const MoeArgs& args, uint8_t* rows, const Launch& launch) const override {
    start<DownJob>("moe_down", quantize_mxfp8<false, AscendingOrder>, args, rows, launch);
  }

 private:
  template <int kTile, class Job>
  static void allow() {
    check(simt::allow_dynamic_shared(tcgen05::tcgen05_product<kTile, Job>, ProductShape<kTile>::kShared),
          "allowing a kernel its shared memory");
  }
  template <class Job>
  void start(const char* name, void (*quantize)(QuantizeArgs), const MoeArgs& args, uint8_t* rows, const Launch& launch) const {
    const QuantizeArgs quantized{args, {rows}};
    start_quantize(name, quantize, quantized, launch);
    if (tile(launch.tokens) == kFewColumns)
      start_product<kFewColumns, Job>(name, quantized, launch);
    else
      start_product<kColumns, Job>(name, quantized, launch);
  }
  // Blocks of the grid that have nothing to do end at once.
  template <int kTile, class Job>
  void start_product(const char* name, const QuantizeArgs& args, const Launch& launch) const {
    const ExpertArgs& experts = args.moe.experts;
    const int pairs = launch.tokens * args.moe.chosen, work = pairs * tcgen05::blocks_of(experts.rows);
    if (work == 0) return;
    const size_t rows_of_codes = experts.experts * expert_bytes(experts.rows, experts.k) / tcgen05::kRowBytes;
    Blocks<Job> job{{{args.moe}}, {}, {}, args.to};
    const bool made =
        make_tensor_map(&job.weights, {CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B, experts.arranged, rows_of_codes,
                                       tcgen05::kBlockDepth, tcgen05::kRowBytes, tcgen05::kBlockRows, tcgen05::kBlockDepth}) &&
        make_tensor_map(&job.codes, {CU_TENSOR_MAP_DATA_TYPE_UINT8, args.to.rows, static_cast<size_t>(pairs),
                                     static_cast<size_t>(experts.k), Mxfp8Rows::pitch(experts.k), kTile, tcgen05::kBlockDepth});
    if (!made)
      throw std::runtime_error("the driver refuses a tensor map of experts of " + std::to_string(experts.rows) + " rows and " +
                               std::to_string(experts.k) + " columns, for a product of " + name);
    check(simt::launch(tcgen05::tcgen05_product<kTile, Job>,
                       {.grid = dim3(std::min(work, processors_)), .block = dim3(tcgen05::kThreads),
                        .dynamic_shared = ProductShape<kTile>::kShared, .stream = launch.stream,
                        .programmatic = launch.dependent},
                       job),
          std::string("launching kernel tcgen05_product of ") + name);
  }

  int processors_;
};

}  // namespace

std::unique_ptr<ScaledProducts> make_tcgen05_products(const BackendOptions& options) {
  if (!wants_block_scaled(options) || !kernel_says(tcgen05::has_tcgen05, "tcgen05")) return nullptr;
  int index = 0;
  check(cudaGetDevice(&index), "asking for the current card");
  cudaDeviceProp card;
  check(cudaGetDeviceProperties(&card, index), "asking for the card's properties");
  return std::make_unique<Tcgen05Products>(card.multiProcessorCount);
}

}  // namespace gptoss::cuda
