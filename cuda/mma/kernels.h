// The matrix kernels of NVIDIA's cards since sm_80, on mma.sync.
#pragma once

#include <memory>

#include "simt/matrix_kernels.h"

namespace gptoss::cuda {

// Of the current card. Null where it has no bf16 mma.sync, or where this build has none for it. `fusion`: stages of few
// tokens are one kernel, where there is one; the bits are the same.
std::unique_ptr<simt::MatrixKernels> make_mma_kernels(const BackendOptions& options, bool fusion = true);

}  // namespace gptoss::cuda
