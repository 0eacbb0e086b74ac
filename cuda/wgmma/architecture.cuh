// Whether the architecture that a kernel is compiled for has wgmma.
#pragma once

#include "simt/port.cuh"

// Only sm_90a has it: elsewhere kernels are empty, and the host does not launch them.
#if defined(GPTOSS_EMULATOR) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define GPTOSS_HAS_WGMMA 1
#endif
