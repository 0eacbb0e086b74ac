// The experts' products on data-center Blackwell, by tcgen05 with block scaling.
#pragma once

#include "mma/kernels.h"

namespace gptoss::cuda {

// Of the current card. Null where they are not asked for, or where it, this build or the precision has none.
std::unique_ptr<ScaledProducts> make_tcgen05_products(const BackendOptions& options);

}  // namespace gptoss::cuda
