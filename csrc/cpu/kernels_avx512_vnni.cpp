// x86-64 with AVX-512 (F, BW, DQ, VL, VNNI): in `fast`, MXFP4 and 8-bit weights meet integers by VPDPWSSD and VPDPBUSD;
// everything else as AVX-512.
#include "kernels.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#define GPTOSS_AVX512
#define GPTOSS_VNNI

namespace gptoss::cpu {
namespace avx512_vnni {
namespace {  // or a member function that is not inlined could be the copy that the linker keeps
#include "kernels.inl"
#include "integers.inl"
}  // namespace
}  // namespace avx512_vnni

static const Kernels table = GPTOSS_INTEGER_KERNELS(avx512_vnni);
const Kernels* const kAvx512Vnni = &table;

}  // namespace gptoss::cpu
#else
namespace gptoss::cpu {
const Kernels* const kAvx512Vnni = nullptr;
}  // namespace gptoss::cpu
#endif
