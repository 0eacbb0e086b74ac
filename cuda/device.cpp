// The entry of the plug-in: which cards there are, why one cannot be used, and a backend on one of them.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>

#include "build_info.h"
#include "mma/kernels.h"
#include "simt/gpu_backend.h"

namespace gptoss::cuda {
namespace {

using simt::check;

// Compiled for the architectures of all portable kernels: where this one cannot be loaded, none can.
__global__ void loadable() {}

constexpr int kOldestMajor = 7, kOldestMinor = 5;

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

// The number of cards; throws std::runtime_error with the remedy where there is none.
int count_cards() {
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

cudaDeviceProp properties(int index) {
  cudaDeviceProp card;
  check(cudaGetDeviceProperties(&card, index), "asking for the properties of card " + std::to_string(index));
  return card;
}

std::string describe(const cudaDeviceProp& card) {
  char text[400];
  std::snprintf(text, sizeof text, "%s, sm_%d%d, %.1f GB", card.name, card.major, card.minor,
                static_cast<double>(card.totalGlobalMem) * 1e-9);
  return text;
}

void refuse_unless_usable(const cudaDeviceProp& card) {
  if (card.major < kOldestMajor || (card.major == kOldestMajor && card.minor < kOldestMinor))
    throw std::runtime_error(describe(card) + ": the kernels need sm_" + std::to_string(kOldestMajor) +
                             std::to_string(kOldestMinor) + " or later");
}

// What a run shall do without, to see what it is worth: names with commas in the environment.
constexpr char kWithout[] = "GPTOSS_CUDA_WITHOUT";
struct Without {
  bool matrix = false, dependent = false, graphs = false;
  Without() {
    const char* text = std::getenv(kWithout);
    std::istringstream names(text != nullptr ? text : "");
    for (std::string name; std::getline(names, name, ',');) {
      if (name == "matrix") matrix = true;
      else if (name == "dependent") dependent = true;
      else if (name == "graphs") graphs = true;
      else throw std::runtime_error(std::string(kWithout) + ": expected matrix, dependent or graphs, found " + name);
    }
  }
};

std::unique_ptr<Backend> make(const BackendOptions& options) {
  const Without without;
  const int count = count_cards(), index = options.index;
  if (index >= count)
    throw std::runtime_error("there is no card " + std::to_string(index) + ": " + std::to_string(count) +
                             (count == 1 ? " card is" : " cards are") + " present, counted from 0");
  const cudaDeviceProp card = properties(index);
  refuse_unless_usable(card);
  check(cudaSetDevice(index), "choosing card " + std::to_string(index));
  cudaFuncAttributes attributes;
  const cudaError_t status = cudaFuncGetAttributes(&attributes, loadable);
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    throw std::runtime_error(describe(card) + ": no kernel of this build can be loaded (" +
                             cudaGetErrorString(status) + "). Kernels were built for " GPTOSS_CUDA_ARCHITECTURES
                             "; build with GPTOSS_CUDA_ARCH=native on this machine");
  }
  const std::string name = count == 1 ? "cuda" : "cuda:" + std::to_string(index);
  auto backend = std::make_unique<simt::GpuBackend>(options, index, name, describe(card),
                                                    without.matrix ? nullptr : make_mma_kernels(options));
  backend->use_dependent_launches(card.major >= 9 && !without.dependent);
  if (without.graphs) backend->use_graphs(false);
  return backend;
}

// Copies as much as fits.
void say(const std::string& text, char* to, size_t bytes) { std::snprintf(to, bytes, "%s", text.c_str()); }

bool probe(char* detail, size_t detail_bytes) {
  try {
    const int count = count_cards();
    bool usable = false;
    std::string text;
    for (int i = 0; i < count; ++i) {
      const cudaDeviceProp card = properties(i);
      if (count > 1) text += (i > 0 ? "; cuda:" : "cuda:") + std::to_string(i) + " ";
      try {
        refuse_unless_usable(card);
        usable = true;
        text += describe(card);
      } catch (const std::exception& why) {
        text += why.what();
      }
    }
    say(text, detail, detail_bytes);
    return usable;
  } catch (const std::exception& error) {
    say(error.what(), detail, detail_bytes);
    return false;
  }
}

Backend* create(const BackendOptions* options, char* error, size_t error_bytes) {
  try {
    return make(*options).release();
  } catch (const std::exception& e) {  // nothing may be thrown through this function
    say(e.what(), error, error_bytes);
    return nullptr;
  }
}

}  // namespace
}  // namespace gptoss::cuda

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, gptoss::cuda::probe, gptoss::cuda::create};
  return &plugin;
}
