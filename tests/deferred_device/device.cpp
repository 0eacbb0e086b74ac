// The CPU as a device that runs ahead: a plug-in for tests of who submits when, without a GPU. Its detail says how many
// steps were submitted, and how many of them before the one before was waited for.
#include <cstdio>

#include "../native/deferred_device.h"
#include "build_info.h"
#include "cpu/backend.h"

namespace {

class Device : public test::DeferredDevice {
 public:
  explicit Device(const gptoss::BackendOptions& options)
      : DeferredDevice(std::make_unique<gptoss::cpu::CpuBackend>(options)) {}
  gptoss::DeviceFacts facts() const override {
    gptoss::DeviceFacts facts = DeferredDevice::facts();
    facts.name = "deferred";
    facts.detail = std::to_string(submitted()) + " steps, " + std::to_string(ahead()) + " ahead";
    return facts;
  }
};

bool probe(char* detail, size_t bytes) {
  std::snprintf(detail, bytes, "the CPU, when it is waited for");
  return true;
}

gptoss::Backend* create(const gptoss::BackendOptions* options, char* error, size_t bytes) {
  try {
    return new Device(*options);
  } catch (const std::exception& e) {
    std::snprintf(error, bytes, "%s", e.what());
    return nullptr;
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, probe, create};
  return &plugin;
}
