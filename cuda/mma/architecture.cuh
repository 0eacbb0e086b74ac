// What a kernel with matrix cores may count on, by the architecture that it is compiled for.
#pragma once

#include "simt/port.cuh"

// Before sm_80 there is no bf16 mma.sync: kernels are then empty, and the host does not launch them.
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define GPTOSS_HAS_MMA 1
#endif

// mma.sync with block scaling is of sm_120a and its family, and not of sm_120: what a driver makes of PTX has none. CUDA
// 12.8 knows no families.
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM120_ALL)
#define GPTOSS_HAS_BLOCK_SCALED_MMA 1
#elif defined(__CUDA_ARCH_FAMILY_SPECIFIC__)
#define GPTOSS_HAS_BLOCK_SCALED_MMA (__CUDA_ARCH_FAMILY_SPECIFIC__ / 100 == 12)
#else
#define GPTOSS_HAS_BLOCK_SCALED_MMA 0
#endif

// tcgen05 is of sm_100a and its family.
#if defined(GPTOSS_EMULATOR) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM100_ALL)
#define GPTOSS_HAS_TCGEN05 1
#elif defined(__CUDA_ARCH_FAMILY_SPECIFIC__)
#define GPTOSS_HAS_TCGEN05 (__CUDA_ARCH_FAMILY_SPECIFIC__ / 100 == 10)
#else
#define GPTOSS_HAS_TCGEN05 0
#endif
