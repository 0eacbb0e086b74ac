// choice, weight (tokens, chosen) = the largest router logits, lowest id on ties, and their softmax; then
// pairs (tokens * chosen) of token and rank, grouped by expert and cut into tiles {expert, first, count}
//
// choose: a warp per token, a lane for every kWarp-th expert. group_pairs: one block. route_few
// does both in one block.
// Bound by latency; grouping reads tokens * chosen * 4 bytes twice for each expert, from cache.
// Sums in order of rank; the grouping is a stable sort by counts and needs no atomics.
// Tested by test_metal.py. Reads as csrc/simt/route.cuh.
#include "dot.h"
#include "routing.h"

using namespace gptoss;

kernel void choose(constant RouteArgs& a [[buffer(0)]], GPTOSS_PLACE) {
  const int token = global_warp(block, warp);
  if (token < a.live->tokens) choose_for(a, token, lane);
}

[[max_total_threads_per_threadgroup(1024)]]
kernel void group_pairs(constant GroupArgs& a [[buffer(0)]], threadgroup int32_t* shared [[threadgroup(0)]],
                        GPTOSS_PLACE, GPTOSS_STRIDES) {
  group(a, shared, thread_index, block_extent.x, lane, warp);
}

// Both, for so few tokens that a launch would take longer.
[[max_total_threads_per_threadgroup(1024)]]
kernel void route_few(constant RouteFewArgs& a [[buffer(0)]], threadgroup int32_t* shared [[threadgroup(0)]],
                      GPTOSS_PLACE, GPTOSS_STRIDES) {
  for (int token = warp; token < a.route.live->tokens; token += block_extent.x / kWarp)
    choose_for(a.route, token, lane);
  sync_block();  // all choices are there
  group(a.group, shared, thread_index, block_extent.x, lane, warp);
}
