// The entry of the plug-in: what only HIP's runtime can say of its cards. The rest is in
// csrc/simt/plugin.cpp.
#include <hip/hip_runtime.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "build_info.h"
#include "matrix/kernels.h"
#include "simt/plugin.h"

namespace gptoss::hip {
namespace {

constexpr char kDriver[] = "/dev/kfd";

hipDeviceProp_t properties(int card) {
  hipDeviceProp_t p;
  simt::check(hipGetDeviceProperties(&p, card), "asking for the properties of card " + std::to_string(card));
  return p;
}

// gfx942 for gfx942:sramecc+:xnack-
std::string architecture_of(const hipDeviceProp_t& p) {
  const std::string full = p.gcnArchName;
  return full.substr(0, full.find(':'));
}

// Whether `list`, which separates with ", ", has it.
bool contains(const std::string& list, const std::string& name) {
  return (", " + list + ", ").find(", " + name + ", ") != std::string::npos;
}

class Amd : public simt::Vendor {
 public:
  const char* device() const override { return "hip"; }
  const char* built_for() const override { return GPTOSS_HIP_ARCHITECTURES; }
  const char* architecture() const override { return "GPTOSS_HIP_ARCH"; }

  int count_cards() const override {
    int count = 0;
    const hipError_t status = hipGetDeviceCount(&count);
    if (status == hipSuccess && count > 0) return count;
    (void)hipGetLastError();
    if (access(kDriver, F_OK) != 0)
      throw std::runtime_error(
          "no AMD GPU driver (there is no /dev/kfd). Install the kernel's amdgpu driver; in a "
          "container, start it with the GPUs (docker run --device /dev/kfd --device /dev/dri)");
    if (access(kDriver, R_OK | W_OK) != 0)
      throw std::runtime_error(std::string("the AMD GPU driver cannot be opened (/dev/kfd: ") +
                               std::strerror(errno) + "). Add this user to the groups render and video");
    if (status == hipErrorNoDevice || status == hipSuccess)
      throw std::runtime_error(
          "the AMD GPU driver shows no card. See rocminfo, and HIP_VISIBLE_DEVICES and "
          "ROCR_VISIBLE_DEVICES where they are set");
    throw std::runtime_error("the AMD GPU driver does not start: " + std::string(hipGetErrorString(status)) +
                             ". See rocminfo");
  }

  std::string describe(int card) const override {
    const hipDeviceProp_t p = properties(card);
    char text[600];
    std::snprintf(text, sizeof text, "%s, %s, waves of %d, %.1f GB", p.name, architecture_of(p).c_str(),
                  p.warpSize, static_cast<double>(p.totalGlobalMem) * 1e-9);
    return text;
  }

  // Asked by name: a kernel that was not compiled for a card ends the process in older runtimes.
  void refuse_unless_usable(int card) const override {
    if (!contains(built_for(), architecture_of(properties(card))))
      throw std::runtime_error(describe(card) + ": kernels were built for " + built_for() +
                               "; build with GPTOSS_HIP_ARCH=native on this machine");
  }

  std::unique_ptr<simt::MatrixKernels> matrix_kernels(const BackendOptions& options) const override {
    return make_matrix_kernels(options);
  }
};

const Amd amd;

bool probe(char* detail, size_t bytes) { return simt::probe(amd, detail, bytes); }
Backend* create(const BackendOptions* options, char* error, size_t bytes) {
  return simt::create(amd, *options, error, bytes);
}

}  // namespace
}  // namespace gptoss::hip

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, gptoss::hip::probe, gptoss::hip::create};
  return &plugin;
}
