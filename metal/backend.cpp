#include "backend.h"

#include <unistd.h>

#include <cstdlib>

namespace gptoss::metal {
namespace {

// From how many tokens on a tile of the matrix units is filled well enough to beat kernels that read a row of weights
// for every four. Half a tile; not measured yet.
constexpr int kMatrixFrom = 16;

bool is_set(const char* variable) {
  const char* text = std::getenv(variable);
  return text && std::string(text) != "0";
}
bool is_off(const char* variable) {
  const char* text = std::getenv(variable);
  return text && std::string(text) == "0";
}

}  // namespace

// GPTOSS_METAL_MATRIX=0: the same sums for any number of tokens, so a result does not depend on how a prompt was cut.
// It costs the speed of the matrix units in prefill.
MetalBackend::MetalBackend(const BackendOptions& options, int index, std::string name, std::string detail)
    : GpuBackend(options, index, std::move(name), std::move(detail)),
      matrix_units_(!is_off("GPTOSS_METAL_MATRIX")) {
  step_is_one_chunk_ = !is_set("METAL_LAUNCH_BLOCKING");
}

void MetalBackend::run(simt::GpuState& s, const simt::Call& call) {
  const Config& c = s.config;
  int filled = call.stage == simt::Stage::unembed ? call.grid.rows : call.grid.tokens;
  if (call.stage == simt::Stage::moe_up || call.stage == simt::Stage::moe_down)
    filled = call.grid.tokens * c.num_experts_per_tok / c.num_local_experts;  // of an expert, on average
  metalStreamUseMatrixUnits(s.stream, matrix_units_ && filled >= kMatrixFrom);
  GpuBackend::run(s, call);
}

// A buffer of whole pages around the tensor. Kernels read words of 4 bytes: a tensor at another address is copied.
const void* MetalBackend::map(const Tensor& tensor, simt::Mappings& mappings) {
  const auto address = reinterpret_cast<uintptr_t>(tensor.data);
  if (address % 4 != 0) return nullptr;
  const uintptr_t page = static_cast<uintptr_t>(getpagesize());
  const uintptr_t begin = address / page * page, end = (address + tensor.bytes() + page - 1) / page * page;
  void* pointer = nullptr;
  if (metalMapHost(&pointer, reinterpret_cast<const void*>(begin), end - begin) != metalSuccess || !pointer)
    return nullptr;
  mappings.emplace_back(pointer, [](void* mapped) { (void)metalFree(mapped); });
  return static_cast<const uint8_t*>(pointer) + (address - begin);
}

}  // namespace gptoss::metal
