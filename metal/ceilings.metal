// What a device can do at best, for benches: a plain read, and multiply-adds on registers.
//
// read_ceiling: the grid strides over the data, 16 bytes a lane. multiply_add: kChains independent chains a thread.
// Bound by memory, and by the float32 units, and by nothing else: that is what they measure.
// Sums go where nobody looks; without them the compiler would leave the work out.
// Run by bench/kernels.py; tested for running at all by test_metal.py. Reads as csrc/simt/ceilings.cuh.
#include "port.h"

using namespace gptoss;

kernel void read_ceiling(constant ReadArgs& a [[buffer(0)]], GPTOSS_PLACE, GPTOSS_STRIDES) {
  device const float4* data = reinterpret_cast<device const float4*>(a.data);
  const size_t count = a.count / 4, stride = static_cast<size_t>(grid_extent.x) * block_extent.x;
  float sum = 0;
  size_t i = static_cast<size_t>(block.x) * block_extent.x + thread_index;
  for (; i + 3 * stride < count; i += 4 * stride) {  // four loads in flight
    const float4 w = data[i], x = data[i + stride], y = data[i + 2 * stride], z = data[i + 3 * stride];
    sum += ((w.x + w.y) + (w.z + w.w)) + ((x.x + x.y) + (x.z + x.w)) + ((y.x + y.y) + (y.z + y.w)) +
           ((z.x + z.y) + (z.z + z.w));
  }
  for (; i < count; i += stride) sum += (data[i].x + data[i].y) + (data[i].z + data[i].w);
  if (sum == -1.0f) *a.sink = sum;  // never: the data are zeros
}

kernel void multiply_add(constant MultiplyAddArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  float chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = static_cast<float>(thread_index + i);
  for (int n = 0; n < a.iterations; ++n)
    for (int i = 0; i < kChains; ++i) chain[i] = fmaf(chain[i], 0.999f, 0.001f);
  float sum = 0;
  for (int i = 0; i < kChains; ++i) sum += chain[i];
  if (sum == -1.0f) *a.sink = sum;
}
