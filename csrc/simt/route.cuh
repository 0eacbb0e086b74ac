// choice, weight (tokens, chosen) = the largest router logits, lowest id on ties, and their softmax; then
// pairs (tokens * chosen) of token and rank, grouped by expert and cut into tiles {expert, first, count}
//
// choose: a warp per token, a lane for every kWarp-th expert. group_pairs: one block. route_few
// does both in one block.
// Bound by latency; grouping reads tokens * chosen * 4 bytes twice for each expert, from cache.
// Sums in order of rank; the grouping is a stable sort by counts and needs no atomics.
// Tested by test_gpu_device.py and gpu_backend_test.cpp.
#pragma once

#include "dot.cuh"
#include "routing.cuh"

namespace gptoss::simt {

__global__ void __launch_bounds__(kBlockThreads) choose(RouteArgs a) {
  wait_for_predecessors();
  if (global_warp() < a.live->tokens) choose_for(a, global_warp());
}

__global__ void __launch_bounds__(1024) group_pairs(GroupArgs a) {
  GPTOSS_DYNAMIC_SHARED(int32_t, shared);
  wait_for_predecessors();
  group(a, shared);
}

// Both, for so few tokens that a launch would take longer.
__global__ void __launch_bounds__(1024, 1) route_few(RouteFewArgs a) {
  GPTOSS_DYNAMIC_SHARED(int32_t, shared);
  wait_for_predecessors();
  for (int token = warp(); token < a.route.live->tokens; token += static_cast<int>(blockDim.x) / kWarp)
    choose_for(a.route, token);
  __syncthreads();  // all choices are there
  group(a.group, shared);
}

}  // namespace gptoss::simt
