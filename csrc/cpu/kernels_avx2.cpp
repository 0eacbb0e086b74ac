// x86-64 with AVX2, FMA and F16C: in `fast`, MXFP4 and 8-bit weights meet integers by VPMADDWD; everything else is float32.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define GPTOSS_AVX2

namespace gptoss::cpu {
namespace avx2 {
#include "kernels.inl"
#include "integers.inl"
}  // namespace avx2

static const Kernels table = GPTOSS_INTEGER_KERNELS(avx2);
const Kernels* const kAvx2 = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAvx2 = nullptr;
}  // namespace gptoss::cpu
#endif
