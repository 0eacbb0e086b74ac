// The products of many columns on Hopper, by wgmma.
#pragma once

#include "mma/kernels.h"

namespace gptoss::cuda {

// Of the current card. Null where it, this build or the precision has none.
std::unique_ptr<WideProducts> make_wgmma_products(const BackendOptions& options);

}  // namespace gptoss::cuda
