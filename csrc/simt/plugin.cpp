#include "plugin.h"

#include <cstdio>
#include <exception>
#include <stdexcept>

namespace gptoss::simt {
namespace {

// Compiled for the architectures of all portable kernels: where this one cannot be loaded, none can.
__global__ void loadable() {}

std::unique_ptr<Backend> make(const Vendor& vendor, const BackendOptions& options) {
  const int count = vendor.count_cards(), index = options.index;
  if (index >= count)
    throw std::runtime_error("there is no card " + std::to_string(index) + ": " + std::to_string(count) +
                             (count == 1 ? " card is" : " cards are") + " present, counted from 0");
  vendor.refuse_unless_usable(index);
  check(GPU(SetDevice)(index), "choosing card " + std::to_string(index));
  GPU(FuncAttributes) attributes;
  const GPU(Error_t) status = GPU(FuncGetAttributes)(&attributes, reinterpret_cast<const void*>(loadable));
  if (status != GPU(Success)) {
    (void)GPU(GetLastError)();
    throw std::runtime_error(vendor.describe(index) + ": no kernel of this build can be loaded (" +
                             GPU(GetErrorString)(status) + "). Kernels were built for " + vendor.built_for() +
                             "; build with " + vendor.architecture() + "=native on this machine");
  }
  const std::string name = vendor.device() + (count == 1 ? "" : ":" + std::to_string(index));
  auto backend = std::make_unique<GpuBackend>(options, index, name, vendor.describe(index),
                                              vendor.matrix_kernels(options));
  vendor.set_up(*backend, index);
  return backend;
}

// Copies as much as fits.
void say(const std::string& text, char* to, size_t bytes) { std::snprintf(to, bytes, "%s", text.c_str()); }

}  // namespace

bool probe(const Vendor& vendor, char* detail, size_t detail_bytes) {
  try {
    const int count = vendor.count_cards();
    bool usable = false;
    std::string text;
    for (int i = 0; i < count; ++i) {
      if (count > 1)
        text += (i > 0 ? "; " : "") + std::string(vendor.device()) + ":" + std::to_string(i) + " ";
      try {
        vendor.refuse_unless_usable(i);
        usable = true;
        text += vendor.describe(i);
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

Backend* create(const Vendor& vendor, const BackendOptions& options, char* error, size_t error_bytes) {
  try {
    return make(vendor, options).release();
  } catch (const std::exception& e) {
    say(e.what(), error, error_bytes);
    return nullptr;
  }
}

}  // namespace gptoss::simt
