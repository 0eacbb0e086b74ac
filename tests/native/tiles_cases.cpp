// kernels_amx.cpp once more, over tiles in software, and its cases. Compiled with the flags of AVX-512 BF16; who calls
// run_tiles() has asked the processor.
#include "attention_cases.h"
#include "check.h"
#include "elementwise_cases.h"
#include "product_cases.h"
#include "software_tiles.h"

#define __AMX_BF16__ 1  // which kernels_amx.cpp asks for
#define kAmx kAmxInSoftware
namespace gptoss::cpu {
extern const Kernels* const kAmxInSoftware;
}
#include "cpu/kernels_amx.cpp"
#undef kAmx

void run_tiles() {
  test::product_cases(*gptoss::cpu::kAmxInSoftware);
  test::attention_cases(*gptoss::cpu::kAmxInSoftware);
  test::elementwise_cases(*gptoss::cpu::kAmxInSoftware);
}
