// x86-64 with AVX-512 F, BW, DQ and VL.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define GPTOSS_AVX512

namespace gptoss::cpu {
namespace avx512 {
#include "kernels.inl"
}  // namespace avx512

static const Kernels table = GPTOSS_KERNELS(avx512);
const Kernels* const kAvx512 = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAvx512 = nullptr;
}  // namespace gptoss::cpu
#endif
