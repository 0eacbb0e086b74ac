#include "isa.h"

#include <cstdlib>
#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gptoss::cpu {
namespace {

#if defined(__x86_64__)
// AMX tiles are 8 KiB of state a thread, which Linux saves only for a process that asked. Refused where a thread
// already has a signal stack too small for them, or by an old system.
bool tiles_permitted() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

bool made_by_amd() { return __builtin_cpu_is("amd"); }

// CPUID leaf 7: what GCC 12's __builtin_cpu_supports does not know.
bool has_amx_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1) && (d >> 24 & 1);  // AMX-BF16, AMX-TILE
}
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

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
  const bool avx512_bf16 = avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
  add(kAmx, avx512_bf16 && has_amx_bf16() && kAmx && tiles_permitted());
  // VDPBF16PS does twice the multiply-adds of float32 on AMD's cores, and half of them on Intel's.
  if (made_by_amd()) add(kAvx512Bf16, avx512_bf16);
  add(kAvx512Vnni, avx512 && __builtin_cpu_supports("avx512vnni"));
  add(kAvx512, avx512);
  if (!made_by_amd()) add(kAvx512Bf16, avx512_bf16);
  add(kAvx2Vnni, avx2 && has_avx_vnni());
  add(kAvx2, avx2);
#endif
#if defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long kBf16 = 1 << 14;  // HWCAP2_BF16
  add(kNeonBf16, (getauxval(AT_HWCAP2) & kBf16) != 0);
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
