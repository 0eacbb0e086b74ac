// The emulator's test kernels as clang compiles them for AMD's devices: see test_emulator.py.
#include "kernels/reduce.cuh"
#include "kernels/split_sum.cuh"
#include "kernels/transpose.cuh"
#include "kernels/wave_gemm.cuh"

namespace kernels {

template __global__ void reduce_rows<Fault::kNone>(const float*, float*, int);
template __global__ void transpose<Fault::kNone>(const float*, float*, int, int);
template __global__ void split_sum<Fault::kNone>(const float*, float*, unsigned*, float*, int, int);
#if defined(__gfx90a__) || defined(__gfx942__) || defined(__gfx950__)
template __global__ void mfma_gemm_16<Fault::kNone>(const uint16_t*, const uint16_t*, float*, int, int);
template __global__ void mfma_gemm_32<Fault::kNone>(const uint16_t*, const uint16_t*, float*, int, int);
#endif
#if defined(__GFX11__)
template __global__ void wmma_gemm<Fault::kNone>(const uint16_t*, const uint16_t*, float*, int, int);
#endif

}  // namespace kernels
