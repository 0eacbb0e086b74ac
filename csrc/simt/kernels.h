// All kernels of csrc/simt; or, for Metal, their names in its program.
#pragma once

#if defined(GPTOSS_METAL_HOST)
#include <metal_kernels.h>
#else
#include "attention.cuh"
#include "ceilings.cuh"
#include "embed.cuh"
#include "linear.cuh"
#include "moe.cuh"
#include "norm.cuh"
#include "qkv.cuh"
#include "route.cuh"
#include "sample.cuh"
#endif
