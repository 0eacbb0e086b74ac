// aarch64: four lanes, fused multiply-add, table look-up.
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#define GPTOSS_NEON

namespace gptoss::cpu {
namespace neon {
#include "kernels.inl"
}  // namespace neon

static const Kernels table = GPTOSS_KERNELS(neon);
const Kernels* const kNeon = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kNeon = nullptr;
}  // namespace gptoss::cpu
#endif
