#include "prefix_cache.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

namespace gptoss {
namespace {

constexpr uint64_t kEmpty = 0xcbf29ce484222325ull;

uint64_t extend(uint64_t hash, int32_t token) {  // FNV-1a over whole tokens, with its high bits folded down
  hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3ull;
  return hash ^ (hash >> 29);
}

template <typename Visit>
void each_page(const Snapshot& snapshot, Visit visit) {
  for (const auto* table : {&snapshot.tables().full, &snapshot.tables().window})
    for (int32_t page : *table)
      if (page >= 0) visit(page);
}

}  // namespace

void PrefixCache::add(std::shared_ptr<const Snapshot> snapshot) {
  if (snapshot->tokens().length() == 0 || capacity_ == 0) return;
  const std::vector<int32_t> tokens = snapshot->tokens().all();
  uint64_t hash = kEmpty;
  for (int32_t token : tokens) hash = extend(hash, token);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
    if (entry->hash == hash && entry->snapshot->tokens().length() == std::ssize(tokens) &&
        entry->snapshot->tokens().is_prefix_of(tokens)) {
      entries_.splice(entries_.begin(), entries_, entry);
      return;
    }
  held_.resize(static_cast<size_t>(snapshot->pool().pages()));
  each_page(*snapshot, [this](int32_t page) { ++held_[page]; });
  entries_.push_front({hash, std::move(snapshot)});
  while (size() > capacity_) erase(std::prev(entries_.end()));
}

void PrefixCache::erase(std::list<Entry>::iterator entry) {
  each_page(*entry->snapshot, [this](int32_t page) { --held_[page]; });
  entries_.erase(entry);
}

std::shared_ptr<const Snapshot> PrefixCache::find(std::span<const int32_t> tokens, int64_t longest) {
  std::vector<uint64_t> hashes{kEmpty};  // of tokens [0, n)
  hashes.reserve(tokens.size() + 1);
  for (int32_t token : tokens) hashes.push_back(extend(hashes.back(), token));
  auto best = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const SharedTokens& held = entry->snapshot->tokens();
    if (held.length() > std::min(longest, int64_t{std::ssize(tokens)})) continue;
    if (hashes[held.length()] != entry->hash) continue;
    if (best != entries_.end() && held.length() <= best->snapshot->tokens().length()) continue;
    if (held.is_prefix_of(tokens)) best = entry;
  }
  if (best == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, best);
  return entries_.front().snapshot;
}

bool PrefixCache::evict() {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    bool needed = false;
    each_page(*entry->snapshot, [&](int32_t page) {
      needed = needed || entry->snapshot->pool().references(page) == held_[page];
    });
    if (!needed) continue;
    erase(std::next(entry).base());
    return true;
  }
  return false;
}

}  // namespace gptoss
