#include "library.h"

#include <cstring>
#include <memory>

namespace emulator::metal {

std::map<std::string, Function>& library() {
  static std::map<std::string, Function> all;
  return all;
}

Launch make_launch(const std::string& name, Dim3 grid, Dim3 block, size_t threadgroup_bytes,
                   const void* arguments, size_t argument_bytes) {
  const Function& function = library().at(name);
  const auto set = std::make_shared<Arguments>();
  std::memcpy(set->bytes[0], arguments, argument_bytes);
  set->byte_counts[0] = argument_bytes;
  return make_launch(function, set, grid, block, threadgroup_bytes);
}

Launch make_launch(const Function& function, std::shared_ptr<Arguments> arguments, Dim3 grid, Dim3 block,
                   size_t threadgroup_bytes) {
  Launch launch;
  launch.kernel = function.code;
  launch.grid = grid;
  launch.block = block;
  launch.dynamic_shared = threadgroup_bytes;
  launch.shared_limit = kThreadgroupMemory;
  launch.entry = function.enter;
  launch.parameters = std::move(arguments);
  launch.parameter_bytes = sizeof(Arguments);
  return launch;
}

}  // namespace emulator::metal
