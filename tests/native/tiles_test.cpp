// The kernels of AMX over tiles in software, where the processor has AVX-512 with BF16 and VBMI: the cases of kernels_test.
#include <cstdio>

#include "check.h"

#if defined(GPTOSS_SOFTWARE_TILES)
void run_tiles();
#endif

int main() {
#if defined(GPTOSS_SOFTWARE_TILES)
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512dq")) {
    run_tiles();
    return test::finish("tiles_test");
  }
#endif
  std::printf("skipped: tiles in software need AVX-512 with BF16 and VBMI\n");
  return 0;
}
