#include "backends.h"

#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <stdexcept>

#include "build_info.h"
#include "cpu/backend.h"

namespace gptoss {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, const DevicePlugin*> plugins;  // never unloaded: their code may be on a stack
};

Registry& registry() {
  static Registry r;
  return r;
}

const DevicePlugin* open_plugin(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error("device plug-in " + path + ": cannot be opened: " + dlerror());
  const auto entry = reinterpret_cast<const DevicePlugin* (*)()>(dlsym(library, "gptoss_device"));
  if (!entry) throw std::runtime_error("device plug-in " + path + ": expected an entry named gptoss_device, found none");
  const DevicePlugin* plugin = entry();
  if (!plugin) throw std::runtime_error("device plug-in " + path + ": its entry gptoss_device returned nothing");
  if (plugin->abi_hash != build::kAbiHash)
    throw std::runtime_error("device plug-in " + path + ": made by another build than this module; build both together");
  return plugin;
}

// The plug-in of a device that was built with this package: devices/ beside this module.
std::string plugin_path(const std::string& name) {
  Dl_info self;
  if (!dladdr(reinterpret_cast<void*>(&plugin_path), &self) || !self.dli_fname) return "";
  const std::string module = self.dli_fname;
  const size_t slash = module.rfind('/');
  return (slash == std::string::npos ? "." : module.substr(0, slash)) + "/devices/gptoss_device_" + name + ".so";
}

// Null, and `why`, if the device was not built.
const DevicePlugin* find_plugin(const std::string& name, std::string& why) {
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  if (const auto known = r.plugins.find(name); known != r.plugins.end()) return known->second;
  for (const auto& device : build::kOptionalDevices) {
    if (name != device.name) continue;
    why = device.detail;
    if (!device.built) return nullptr;
    return r.plugins[name] = open_plugin(plugin_path(name));
  }
  throw std::invalid_argument("no device is named '" + name + "'");
}

// "cuda:1" is the second device of cuda; sets its index and returns the name.
std::string split_index(const std::string& device, int& index) {
  const size_t colon = device.find(':');
  if (colon == std::string::npos) return device;
  const std::string digits = device.substr(colon + 1);
  if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string::npos)
    throw std::invalid_argument("device '" + device + "': expected a number behind the colon, as in cuda:1");
  index = std::stoi(digits);
  return device.substr(0, colon);
}

DeviceStatus status_of(const std::string& name) {
  DeviceStatus status;
  status.name = name;
  for (const auto& device : build::kOptionalDevices) status.built = status.built || (device.built && name == device.name);
  try {
    const DevicePlugin* plugin = find_plugin(name, status.detail);
    if (!plugin) return status;
    status.built = true;
    char detail[512] = "";
    status.present = plugin->probe(detail, sizeof detail);
    status.detail = detail;
  } catch (const std::exception& error) {
    status.detail = error.what();
  }
  return status;
}

}  // namespace

void register_device(const std::string& name, const std::string& path) {
  if (name == "cpu") throw std::invalid_argument("the name 'cpu' is taken by the device in this module");
  const DevicePlugin* plugin = open_plugin(path);
  Registry& r = registry();
  std::lock_guard lock(r.mutex);
  r.plugins[name] = plugin;
}

std::vector<DeviceStatus> list_devices() {
  std::vector<DeviceStatus> all{{.name = "cpu", .built = true, .present = true, .detail = ""}};
  std::vector<std::string> names;
  for (const auto& device : build::kOptionalDevices) names.push_back(device.name);
  {
    std::lock_guard lock(registry().mutex);
    for (const auto& [name, plugin] : registry().plugins)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  for (const auto& name : names) all.push_back(status_of(name));
  return all;
}

std::unique_ptr<Backend> create_backend(const std::string& device, const BackendOptions& asked) {
  BackendOptions options = asked;
  const std::string name = split_index(device, options.index);
  if (name == "cpu" && options.index > 0)
    throw std::invalid_argument("device '" + device + "': there is one cpu; its cores are chosen with threads");
  if (name == "cpu") return std::make_unique<cpu::CpuBackend>(options);
  std::string why;
  const DevicePlugin* plugin = find_plugin(name, why);
  if (!plugin) throw std::runtime_error("device " + name + " was not built: " + why);
  char text[512] = "";
  if (!plugin->probe(text, sizeof text)) throw std::runtime_error("device " + name + " is not present: " + text);
  text[0] = '\0';
  Backend* backend = plugin->create(&options, text, sizeof text);
  if (!backend) throw std::runtime_error("device " + name + ": " + text);
  return std::unique_ptr<Backend>(backend);
}

}  // namespace gptoss
