// exp_pair and log_pair of metal/pair_exp.h by themselves, a thread for each number: a test's program, not the device's.
#include "pair_exp.h"
#include "pairs.h"

using namespace gptoss;

kernel void exp_and_log(constant PairsArgs& a [[buffer(0)]], GPTOSS_PLACE, GPTOSS_STRIDES) {
  const int i = block.x * block_extent.x + thread_index;
  if (i >= a.count) return;
  const Pair x = {a.x[2 * i], a.x[2 * i + 1]};
  const Pair e = exp_pair(x), l = log_pair(add_any(Pair{-x.hi, -x.lo}, 1.0f));
  a.exp[2 * i] = e.hi;
  a.exp[2 * i + 1] = e.lo;
  a.log[2 * i] = l.hi;
  a.log[2 * i + 1] = l.lo;
}
