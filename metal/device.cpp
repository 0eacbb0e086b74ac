// The entry of the plug-in: which GPUs there are, why one cannot be used, and a backend on one of them.
#include "runtime/device.h"

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>

#include "backend.h"
#include "build_info.h"

namespace gptoss::metal {
namespace {

const std::vector<std::unique_ptr<Device>>& devices() {
  if (Device::all().empty())
    throw std::runtime_error(
        "no Apple GPU (M1 or later, with macOS 14 or later) is here. GPUs of other makers are not "
        "supported; use device='cpu'");
  return Device::all();
}

std::string describe(const Device& device) {
  char text[400];
  std::snprintf(text, sizeof text, "%s, %.1f GB for the GPU", device.mtl()->name()->utf8String(),
                static_cast<double>(device.mtl()->recommendedMaxWorkingSetSize()) * 1e-9);
  return text;
}

std::unique_ptr<Backend> make(const BackendOptions& options) {
  const Pool pool;
  const auto& all = devices();
  const size_t index = static_cast<size_t>(options.index);
  if (index >= all.size())
    throw std::runtime_error("there is no GPU " + std::to_string(index) + ": " + std::to_string(all.size()) +
                             (all.size() == 1 ? " is" : " are") + " present, counted from 0");
  (void)all[index]->pipeline("rmsnorm");  // compiles the program: what is wrong with it shows here
  const std::string name = all.size() == 1 ? "metal" : "metal:" + std::to_string(index);
  return std::make_unique<MetalBackend>(options, options.index, name, describe(*all[index]));
}

void say(const std::string& text, char* to, size_t bytes) { std::snprintf(to, bytes, "%s", text.c_str()); }

bool probe(char* detail, size_t detail_bytes) {
  try {
    const Pool pool;
    std::string text;
    const auto& all = devices();
    for (size_t i = 0; i < all.size(); ++i) {
      if (all.size() > 1) text += (i > 0 ? "; metal:" : "metal:") + std::to_string(i) + " ";
      text += describe(*all[i]);
    }
    say(text, detail, detail_bytes);
    return true;
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
}  // namespace gptoss::metal

extern "C" __attribute__((visibility("default"))) const gptoss::DevicePlugin* gptoss_device() {
  static const gptoss::DevicePlugin plugin{gptoss::build::kAbiHash, gptoss::metal::probe,
                                           gptoss::metal::create};
  return &plugin;
}
