#include "prefix_cache.h"

#include <algorithm>
#include <vector>

namespace gptoss {
namespace {

constexpr uint64_t kEmpty = 0xcbf29ce484222325ull;

uint64_t extend(uint64_t hash, int32_t token) {  // FNV-1a over whole tokens, with its high bits folded down
  hash = (hash ^ static_cast<uint32_t>(token)) * 0x100000001b3ull;
  return hash ^ (hash >> 29);
}

}  // namespace

void PrefixCache::add(const Session& session) {
  if (session.length() == 0 || capacity_ == 0) return;
  uint64_t hash = kEmpty;
  for (int32_t token : session.tokens()) hash = extend(hash, token);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry)
    if (entry->hash == hash && entry->snapshot->tokens() == session.tokens()) {
      entries_.splice(entries_.begin(), entries_, entry);
      return;
    }
  entries_.push_front({hash, session.snapshot()});
  while (size() > capacity_) entries_.pop_back();
}

std::shared_ptr<const Snapshot> PrefixCache::find(std::span<const int32_t> tokens) {
  std::vector<uint64_t> hashes{kEmpty};  // of tokens [0, n)
  hashes.reserve(tokens.size() + 1);
  for (int32_t token : tokens) hashes.push_back(extend(hashes.back(), token));
  auto best = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const auto& held = entry->snapshot->tokens();
    if (held.size() >= tokens.size() || hashes[held.size()] != entry->hash) continue;
    if (best != entries_.end() && held.size() <= best->snapshot->tokens().size()) continue;
    if (std::equal(held.begin(), held.end(), tokens.begin())) best = entry;
  }
  if (best == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, best);
  return entries_.front().snapshot;
}

bool PrefixCache::evict() {
  if (entries_.empty()) return false;
  entries_.pop_back();
  return true;
}

}  // namespace gptoss
