// What a kernel with matrix cores may count on, by the architecture that it is compiled for.
#pragma once

#include "simt/port.cuh"

// Before sm_80 there is no bf16 mma.sync: kernels are then empty, and the host does not launch them.
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define GPTOSS_HAS_MMA 1
#endif

// mma.sync with block scaling is sm_120a's (and not sm_120's: what a driver makes of PTX has none).
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM120_ALL)
#define GPTOSS_HAS_BLOCK_SCALED_MMA 1
#else
#define GPTOSS_HAS_BLOCK_SCALED_MMA 0
#endif
