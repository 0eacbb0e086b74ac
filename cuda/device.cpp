// The entry of the plug-in: what only CUDA's runtime can say of its cards. The rest is in csrc/simt/plugin.cpp.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "build_info.h"
#include "mma/kernels.h"
#include "simt/plugin.h"
#include "wgmma/kernels.h"

namespace gptoss::cuda {
namespace {

constexpr int kOldestMajor = 7, kOldestMinor = 5;

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

cudaDeviceProp properties(int card) {
  cudaDeviceProp p;
  simt::check(cudaGetDeviceProperties(&p, card), "asking for the properties of card " + std::to_string(card));
  return p;
}

// What a run shall do without, to see what it is worth: names with commas in the environment.
constexpr char kWithout[] = "GPTOSS_CUDA_WITHOUT";
struct Without {
  bool matrix = false, wgmma = false, wgmma_attention = false, dependent = false, graphs = false, fusion = false, ahead = false;
  Without() {
    const char* text = std::getenv(kWithout);
    std::string left = text != nullptr ? text : "";
    while (!left.empty()) {  // no stream: where libstdc++ is linked statically, one of a plug-in's can crash
      const size_t comma = left.find(',');
      const std::string name = left.substr(0, comma);
      left = comma == std::string::npos ? "" : left.substr(comma + 1);
      if (name == "matrix") matrix = true;
      else if (name == "wgmma") wgmma = true;
      else if (name == "wgmma_attention") wgmma_attention = true;
      else if (name == "dependent") dependent = true;
      else if (name == "graphs") graphs = true;
      else if (name == "fusion") fusion = true;
      else if (name == "ahead") ahead = true;
      else
        throw std::runtime_error(std::string(kWithout) +
                                 ": expected matrix, wgmma, wgmma_attention, dependent, graphs, fusion or ahead, found " + name);
    }
  }
};

class Nvidia : public simt::Vendor {
 public:
  const char* device() const override { return "cuda"; }
  const char* built_for() const override { return GPTOSS_CUDA_ARCHITECTURES; }
  const char* architecture() const override { return "GPTOSS_CUDA_ARCH"; }

  int count_cards() const override {
    int count = 0, driver = 0, runtime = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status == cudaSuccess && count > 0) return count;
    (void)cudaGetLastError();
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
      throw std::runtime_error("no NVIDIA driver. Install one for CUDA " + version(runtime) +
                               " or later; in a container, start it with the GPUs (docker run --gpus all)");
    if (status == cudaErrorInsufficientDriver)
      throw std::runtime_error("the NVIDIA driver is for CUDA " + version(driver) + ", this build needs " +
                               version(runtime) + ". Update the driver, or build with a toolkit that is not newer");
    if (status == cudaErrorNoDevice || status == cudaSuccess)
      throw std::runtime_error("the NVIDIA driver (CUDA " + version(driver) +
                               ") shows no card. See nvidia-smi, and CUDA_VISIBLE_DEVICES where it is set");
    throw std::runtime_error("the NVIDIA driver (CUDA " + version(driver) +
                             ") does not start: " + std::string(cudaGetErrorString(status)) + ". See nvidia-smi");
  }

  std::string describe(int card) const override {
    const cudaDeviceProp p = properties(card);
    char text[400];
    std::snprintf(text, sizeof text, "%s, sm_%d%d, %.1f GB", p.name, p.major, p.minor,
                  static_cast<double>(p.totalGlobalMem) * 1e-9);
    return text;
  }

  void refuse_unless_usable(int card) const override {
    const cudaDeviceProp p = properties(card);
    if (p.major < kOldestMajor || (p.major == kOldestMajor && p.minor < kOldestMinor))
      throw std::runtime_error(describe(card) + ": the kernels need sm_" + std::to_string(kOldestMajor) +
                               std::to_string(kOldestMinor) + " or later");
  }

  std::unique_ptr<simt::MatrixKernels> matrix_kernels(const BackendOptions& options) const override {
    const Without without;
    if (without.matrix) return nullptr;
    return make_mma_kernels(options, !without.fusion, without.wgmma ? nullptr : make_wgmma_products(options, !without.wgmma_attention));
  }
  void set_up(simt::GpuBackend& backend, int card) const override {
    const Without without;
    backend.use_dependent_launches(properties(card).major >= 9 && !without.dependent);
    if (without.graphs) backend.use_graphs(false);
    if (without.ahead) backend.use_steps_ahead(false);
  }
};

const Nvidia nvidia;

bool probe(char* detail, size_t bytes) { return simt::probe(nvidia, detail, bytes); }
Backend* create(const BackendOptions* options, char* error, size_t bytes) {
  return simt::create(nvidia, *options, error, bytes);
}

}  // namespace
}  // namespace gptoss::cuda

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, gptoss::cuda::probe, gptoss::cuda::create};
  return &plugin;
}
