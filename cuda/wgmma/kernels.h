// The products of many columns on Hopper, and the attention of many queries, by wgmma.
#pragma once

#include "mma/kernels.h"

namespace gptoss::cuda {

// Of the current card. Null where it, this build or the precision has none. `attention`: that, too, where the cache is bf16.
std::unique_ptr<WideProducts> make_wgmma_products(const BackendOptions& options, bool attention = true);

}  // namespace gptoss::cuda
