// The GPU device of csrc/simt as a plug-in that needs no GPU: over the emulator's runtime instead of CUDA's or HIP's.
//
// It is slow, runs on one thread, and only tests build it. GPTOSS_EMULATOR_SEED chooses the schedule of a device:
// of threads, of copies, of streams. A kernel that is right gives the same results with every seed.
// GPTOSS_EMULATED_MATRIX=mma gives it the matrix kernels of cuda/mma and launches that overlap, =wgmma or =tcgen05 those of
// cuda/wgmma or cuda/tcgen05, too; or with HIP =amd those of hip/matrix; otherwise SIMT does all. GPTOSS_EMULATED_WITHOUT_FUSION=1: stages of few tokens are
// as many kernels as those of many.
#include <cstdlib>
#include <string>

#include "build_info.h"
#include "runtime/stream.h"
#include "simt/plugin.h"
#if GPTOSS_CUDA_DEVICE
#include "mma/kernels.h"
#include "tcgen05/kernels.h"
#include "wgmma/kernels.h"
#else
#include "matrix/kernels.h"
#endif

namespace {

class Emulated : public gptoss::simt::Vendor {
 public:
  const char* device() const override { return GPTOSS_EMULATED_NAME; }
  const char* built_for() const override { return "the emulator"; }
  const char* architecture() const override { return "nothing"; }
  int count_cards() const override { return 1; }
  std::string describe(int) const override { return "an emulated GPU, for tests"; }
  void refuse_unless_usable(int) const override {}
  std::unique_ptr<gptoss::simt::MatrixKernels> matrix_kernels(const gptoss::BackendOptions& options) const override {
    const char* matrix = std::getenv("GPTOSS_EMULATED_MATRIX");
#if GPTOSS_CUDA_DEVICE
    const bool fusion = std::getenv("GPTOSS_EMULATED_WITHOUT_FUSION") == nullptr;
    if (matrix != nullptr && std::string(matrix) == "mma") return gptoss::cuda::make_mma_kernels(options, fusion);
    if (matrix != nullptr && std::string(matrix) == "wgmma")
      return gptoss::cuda::make_mma_kernels(options, fusion, gptoss::cuda::make_wgmma_products(options));
    if (matrix != nullptr && std::string(matrix) == "tcgen05")
      return gptoss::cuda::make_mma_kernels(options, fusion, nullptr, gptoss::cuda::make_tcgen05_products(options));
#else
    if (matrix != nullptr && std::string(matrix) == "amd") return gptoss::hip::make_matrix_kernels(options);
#endif
    return nullptr;
  }
  void set_up(gptoss::simt::GpuBackend& backend, int) const override {
    const char* matrix = std::getenv("GPTOSS_EMULATED_MATRIX");
    const std::string name = matrix != nullptr ? matrix : "";
    backend.use_dependent_launches(name == "mma" || name == "wgmma" || name == "tcgen05");
  }
};

const Emulated emulated;

bool probe(char* detail, size_t bytes) { return gptoss::simt::probe(emulated, detail, bytes); }
gptoss::Backend* create(const gptoss::BackendOptions* options, char* error, size_t bytes) {
  const char* seed = std::getenv("GPTOSS_EMULATOR_SEED");
  emulator::seed(seed != nullptr ? std::strtoull(seed, nullptr, 10) : 0);
  return gptoss::simt::create(emulated, *options, error, bytes);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, probe, create};
  return &plugin;
}
