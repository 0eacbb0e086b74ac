// Snapshots of earlier sequences, so that a new one that begins alike resumes instead of computing again.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "session.h"

namespace gptoss {

// It keeps what it is given until pages are needed: evict().
class PrefixCache {
 public:
  explicit PrefixCache(int capacity = 0) : capacity_(capacity) {}

  // The least recently used snapshot goes when there are more than the capacity.
  void add(std::shared_ptr<const Snapshot> snapshot);
  // The longest snapshot of at most `longest` tokens, with which `tokens` begin; null if there is none. It is then
  // the most recently used one.
  std::shared_ptr<const Snapshot> find(std::span<const int32_t> tokens, int64_t longest);
  // Drops the least recently used snapshot that stands between some page and its being free: one with a page that
  // only snapshots hold. What sessions use too is kept, since nothing would come of dropping it. False if there is
  // none. (A page that several snapshots hold is free when all of them are gone: call again.)
  bool evict();
  int size() const { return static_cast<int>(entries_.size()); }
  void clear() { while (size() > 0) erase(entries_.begin()); }

 private:
  struct Entry {
    uint64_t hash;  // of the tokens
    std::shared_ptr<const Snapshot> snapshot;
  };
  void erase(std::list<Entry>::iterator entry);
  int capacity_;
  std::list<Entry> entries_;  // most recently used first
  std::vector<int> held_;     // page: by how many of them. Kept, since counting anew costs all pages of all of them
};

}  // namespace gptoss
