// What this machine can do at best, for benches: measured with the instruction set and the threads of a device.
#pragma once

#include "kernels.h"
#include "threads.h"

namespace gptoss::cpu {

// Bytes per second of a plain read of `bytes`, which should be more than the caches.
double read_bandwidth(const Kernels& kernels, Pool& pool, size_t bytes, double seconds);
// float32 FLOP per second of fused multiply-adds on registers.
double fma_rate(const Kernels& kernels, Pool& pool, double seconds);
// bf16 FLOP per second of the matrix unit; 0 where the instruction set has none.
double matrix_rate(const Kernels& kernels, Pool& pool, double seconds);

}  // namespace gptoss::cpu
