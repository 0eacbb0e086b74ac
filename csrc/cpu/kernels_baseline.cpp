// Any CPU: four lanes, the compiler's generic vectors (SSE2 on x86-64).
#include "kernels.h"

namespace gptoss::cpu {
namespace baseline {
#include "kernels.inl"
}  // namespace baseline

static const Kernels table = GPTOSS_KERNELS(baseline);
const Kernels* const kBaseline = &table;

}  // namespace gptoss::cpu
