// A block's tile in matrix.metal, which the host cuts its grids by.
#pragma once

#include "args.h"

namespace gptoss {

GPTOSS_CONSTANT int kMatrixTokens =
    32;  // of a tile: rows of activations, which share one unpacking of the weights
GPTOSS_CONSTANT int kMatrixRows = 64;   // rows of weights
GPTOSS_CONSTANT int kMatrixDepth = 32;  // of k at a time
GPTOSS_CONSTANT int kMatrixWarps = 4;
// Threadgroup memory: both operands of a step in float32; the sums take their place in the end.
GPTOSS_CONSTANT int kMatrixShared = (kMatrixTokens + kMatrixRows) * kMatrixDepth * 4;
static_assert(kMatrixTokens * kMatrixRows * 4 <= kMatrixShared, "the sums take the place of the operands");
static_assert(kMatrixShared <= 32768, "what every Apple GPU gives a threadgroup");
static_assert(kMatrixTokens % kTileTokens == 0, "the tiles of SIMT kernels are joined to whole ones");

}  // namespace gptoss
