// The matrix kernels of AMD's cards: on MFMA (CDNA 2 and 3) and on WMMA (RDNA 3 and 4).
#pragma once

#include <memory>

#include "simt/matrix_kernels.h"

namespace gptoss::hip {

// Of the current card. Null where it has no matrix core that these kernels know.
std::unique_ptr<simt::MatrixKernels> make_matrix_kernels(const BackendOptions& options);

}  // namespace gptoss::hip
