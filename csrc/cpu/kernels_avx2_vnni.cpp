// x86-64 with AVX2, FMA, F16C and AVX-VNNI: in `fast`, MXFP4 and 8-bit weights meet integers by VPDPWSSD and VPDPBUSD;
// everything else as AVX2.
#include "kernels.h"

#if defined(__AVXVNNI__)
#include <immintrin.h>
#define GPTOSS_AVX2
#define GPTOSS_VNNI

namespace gptoss::cpu {
namespace avx2_vnni {
namespace {  // or a member function that is not inlined could be the copy that the linker keeps
#include "kernels.inl"
#include "integers.inl"
}  // namespace
}  // namespace avx2_vnni

static const Kernels table = GPTOSS_INTEGER_KERNELS(avx2_vnni);
const Kernels* const kAvx2Vnni = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAvx2Vnni = nullptr;
}  // namespace gptoss::cpu
#endif
