// Snapshots of earlier sequences, so that a new one that begins alike resumes instead of computing again.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>

#include "session.h"

namespace gptoss {

class PrefixCache {
 public:
  explicit PrefixCache(int capacity) : capacity_(capacity) {}

  // Remembers where `session` stands; the least recently used snapshot goes when there are too many.
  void add(const Session& session);
  // The longest snapshot whose tokens begin `tokens` and are fewer than them; null if there is none.
  std::shared_ptr<const Snapshot> find(std::span<const int32_t> tokens);
  // Drops the least recently used snapshot; false if there is none. Its pages are free once no session holds them.
  bool evict();
  int size() const { return static_cast<int>(entries_.size()); }
  void clear() { entries_.clear(); }

 private:
  struct Entry {
    uint64_t hash;  // of the tokens
    std::shared_ptr<const Snapshot> snapshot;
  };
  int capacity_;
  std::list<Entry> entries_;  // most recently used first
};

}  // namespace gptoss
