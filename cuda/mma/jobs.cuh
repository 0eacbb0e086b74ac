// What the products of cuda/mma and cuda/wgmma multiply, in the order of weights.cuh.
#pragma once

#include "simt/product_jobs.cuh"
#include "simt/qkv.cuh"
#include "weights.cuh"

namespace gptoss::cuda {

// Of a block. Each sums a part of k, of whole units, and the parts are added in ascending order; in cuda/wgmma, too.
constexpr int kProductWarps = 8, kProductThreads = 32 * kProductWarps;

using LinearJob = simt::LinearJob<Layout>;
using UpJob = simt::UpJob<Layout>;
using DownJob = simt::DownJob<Layout>;

// The same of qkv, whose strips hold rotated pairs (see RowPlace): queries turned, keys and values in their pages.
template <class Kv>
struct QkvJob : LinearJob {
  AppendArgs append;

  template <class Sum>
  GPTOSS_DEVICE void finish(int item, int live, const simt::Workers& workers, const Sum& sum) const {
    constexpr int kPairs = kStripRows / 2;
    const int half = append.head_dim / 2, strips = append.head_dim / kStripRows, strip = item / tiles;
    const int head = strip / strips, head_row = head * append.head_dim;
    for (int e = workers.rank; e < live * kPairs; e += workers.size) {
      const int i = e / kPairs, p = e % kPairs, j = strip % strips * kPairs + p;
      simt::rotate_append_pair<Kv>(append, first(item) + i, head, j, sum(i, p) + a.bias[head_row + j],
                                   sum(i, p + kPairs) + a.bias[head_row + j + half]);
    }
  }
};

}  // namespace gptoss::cuda
