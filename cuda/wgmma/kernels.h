// The products of many columns on Hopper, by wgmma; everything else stays with the kernels of cuda/mma.
#pragma once

#include <memory>

#include "simt/matrix_kernels.h"

namespace gptoss::cuda {

// Of the current card: `mma`, with products by wgmma where the card and this build have them and the precision is `fast`.
// Weights lie as `mma` has them. With null: null.
std::unique_ptr<simt::MatrixKernels> with_wgmma(std::unique_ptr<simt::MatrixKernels> mma, const BackendOptions& options);

}  // namespace gptoss::cuda
