// The registry: which devices this build knows, which are present, and how to make one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend.h"

namespace gptoss {

struct DeviceStatus {
  std::string name;
  bool built = false;
  bool present = false;
  std::string detail;  // what it is, or why it cannot be used and what to do
};

std::vector<DeviceStatus> list_devices();

// "cpu", or a device whose plug-in lies beside this module or was registered; "cuda:1" is the second of several cards.
// Throws std::invalid_argument for a name nobody knows and std::runtime_error, with reason and remedy, for a device
// that cannot be used.
std::unique_ptr<Backend> create_backend(const std::string& device, const BackendOptions& options);

// Opens the plug-in at `path` and keeps it as `name`; throws std::runtime_error if it is not of this build.
void register_device(const std::string& name, const std::string& path);

}  // namespace gptoss
