// Who knows of what: vector clocks, from which the detector tells an ordered pair of accesses from a race.
//
// Each thread counts its own releases. A clock holds, for every thread, the count up to which its owner has been
// told of that thread's accesses, by a barrier, a fence and an atomic, or an mbarrier.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace emulator {

class Clock {
 public:
  Clock() = default;
  Clock(int block, size_t threads) : block_(block), own_(threads, 0) {}

  uint32_t& at(size_t thread) { return own_[thread]; }
  uint32_t at(int block, size_t thread) const {
    if (block == block_) return own_[thread];
    const auto found = others_.find(block);
    return found == others_.end() || thread >= found->second.size() ? 0 : found->second[thread];
  }
  bool empty() const { return own_.empty(); }

  void join(const Clock& other) {
    if (empty()) {
      *this = other;
      return;
    }
    if (!other.empty()) merge(other.block_, other.own_);
    for (const auto& [block, counts] : other.others_) merge(block, counts);
  }

 private:
  void merge(int block, const std::vector<uint32_t>& counts) {
    std::vector<uint32_t>& mine = block == block_ ? own_ : others_[block];
    mine.resize(std::max(mine.size(), counts.size()), 0);
    for (size_t i = 0; i < counts.size(); ++i) mine[i] = std::max(mine[i], counts[i]);
  }
  int block_ = -1;
  std::vector<uint32_t> own_;                     // threads of the owner's block
  std::map<int, std::vector<uint32_t>> others_;   // threads of other blocks: rarely any
};

}  // namespace emulator
