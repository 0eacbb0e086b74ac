// What a kernel with matrix cores may count on, by the architecture that it is compiled for.
#pragma once

#include "simt/port.cuh"

// Before sm_80 there is no bf16 mma.sync: kernels are then empty, and the host does not launch them.
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define GPTOSS_HAS_MMA 1
#endif
