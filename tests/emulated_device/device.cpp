// The GPU device of csrc/simt as a plug-in that needs no GPU: over the emulator's runtime instead of CUDA's.
//
// It is slow, runs on one thread, and only tests build it. GPTOSS_EMULATOR_SEED chooses the schedule of a
// device:
// of threads, of copies, of streams. A kernel that is right gives the same results with every seed.
// GPTOSS_EMULATED_MATRIX=mma gives it the matrix kernels of cuda/mma, and launches that overlap.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "build_info.h"
#include "runtime/stream.h"
#include "mma/kernels.h"
#include "simt/gpu_backend.h"

namespace {

bool probe(char* detail, size_t detail_bytes) {
  std::snprintf(detail, detail_bytes, "an emulated GPU, for tests");
  return true;
}

gptoss::Backend* create(const gptoss::BackendOptions* options, char* error, size_t error_bytes) {
  try {
    const char* seed = std::getenv("GPTOSS_EMULATOR_SEED");
    emulator::seed(seed != nullptr ? std::strtoull(seed, nullptr, 10) : 0);
    const char* matrix = std::getenv("GPTOSS_EMULATED_MATRIX");
    const bool mma = matrix != nullptr && std::strcmp(matrix, "mma") == 0;
    auto backend = std::make_unique<gptoss::simt::GpuBackend>(*options, options->index, "emulated", "an emulated GPU",
                                                              mma ? gptoss::cuda::make_mma_kernels(*options) : nullptr);
    backend->use_dependent_launches(mma);
    return backend.release();
  } catch (const std::exception& e) {  // nothing may be thrown through this function
    std::snprintf(error, error_bytes, "%s", e.what());
    return nullptr;
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, probe, create};
  return &plugin;
}
