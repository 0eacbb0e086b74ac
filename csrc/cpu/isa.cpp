#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace gptoss::cpu {
namespace {

std::vector<Isa> detect() {
  std::vector<Isa> found;
  const auto add = [&found](const Kernels* kernels, bool present) {
    if (kernels) found.push_back({kernels->name, kernels, present});
  };
#if defined(__x86_64__)
  // These ask CPUID, and XGETBV whether the system saves the registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  add(kAvx512, avx512);
  add(kAvx2, avx2);
#endif
  add(kNeon, true);  // every aarch64 has it
  add(kBaseline, true);
  return found;
}

}  // namespace

const std::vector<Isa>& isas() {
  static const std::vector<Isa> all = detect();
  return all;
}

const Kernels& choose_isa(const std::string& forced) {
  const char* environment = std::getenv("GPTOSS_CPU_ISA");
  const std::string wanted = !forced.empty() ? forced : environment ? environment : "";
  std::string names;
  for (const Isa& isa : isas()) {
    if (wanted.empty() ? isa.present : wanted == isa.name) {
      if (!isa.present)
        throw std::invalid_argument("GPTOSS_CPU_ISA: this machine does not have '" + wanted + "'; unset it to use the best present");
      return *isa.kernels;
    }
    names += names.empty() ? isa.name : std::string(", ") + isa.name;
  }
  throw std::invalid_argument("GPTOSS_CPU_ISA: expected one of " + names + ", found '" + wanted + "'");
}

}  // namespace gptoss::cpu
