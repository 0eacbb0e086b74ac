// Sessions, snapshots and their cache under random operations, against a plain model, with a memory of our own in place
// of a device.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <vector>

#include "check.h"
#include "prefix_cache.h"
#include "tiny_model.h"

namespace test {

using namespace gptoss;

// A hash of each prefix of a sequence: what its slots should hold.
inline std::vector<uint64_t> prefix_marks(const Tokens& tokens) {
  std::vector<uint64_t> marks;
  uint64_t mark = 0x1234567;
  for (int32_t token : tokens)
    marks.push_back(mark = Random(mark ^ (static_cast<uint64_t>(token) << 32)).bits());
  return marks;
}

struct Seen {  // a checkpoint, as the cache ought to hold it
  Tokens tokens;
  PageTables tables;
  int first;  // slot of the sliding layers that it must hold
};

class RandomLife {
 public:
  RandomLife(const Config& config, int pages, int capacity, uint64_t seed)
      : config_(config),
        random_(seed),
        capacity_(capacity),
        pool_(std::make_shared<PagePool>(pages)),
        cache_(capacity),
        memory_(pages) {
    for (auto& page : memory_) page.fill(0);
    for (int i = 0; i < 4; ++i) {
      Tokens script = i ? slice(scripts_[i - 1], 0, random_.below(kLongest)) : Tokens();
      while (static_cast<int>(script.size()) < kLongest) script.push_back(random_.below(1000));
      scripts_.push_back(std::move(script));
    }
    for (auto& session : live_) session = std::make_unique<Session>(pool_, config_);
  }

  void run(int operations) {
    const int failures_before = failures;
    for (int i = 0; i < operations && failures == failures_before; ++i) {
      const int which = random_.below(kSessions), kind = random_.below(100);
      operation_ = i;
      if (kind < 55)
        extend(*live_[which]);
      else if (kind < 70)
        truncate(*live_[which]);
      else if (kind < 85)
        remember(*live_[which]);
      else if (kind < 95)
        reopen(live_[which]);
      else if (kind < 97)
        live_[which] = std::make_unique<Session>(pool_, config_);
      else
        evict();
      check();
    }
    for (auto& session : live_) session.reset();
    CHECK(pool_->free_pages() == pool_->pages() - static_cast<int>(pages_of_cache().size()),
          "sessions left pages behind");
    cache_.clear();
    CHECK(pool_->free_pages() == pool_->pages(), "%d of %d pages leaked",
          pool_->pages() - pool_->free_pages(), pool_->pages());
  }

  int copies = 0, refusals = 0, resumed = 0, failed_steps = 0, on_the_way = 0, spared = 0;

 private:
  static constexpr int kLongest = 600, kSessions = 4;
  using Page = std::array<uint64_t, kPageTokens>;

  bool has(LayerType type) const { return config_.layers_of(type) > 0; }

  // What a step does: room, copies, one slot per token; then it fails, or is committed.
  void extend(Session& session) {
    const Tokens& script = scripts_[random_.below(4)];
    Tokens tokens;
    const int count = std::min(kLongest - session.length(),
                               random_.below(3) ? 1 + random_.below(3) : 1 + random_.below(150));
    for (int p = session.length(); p < session.length() + count; ++p)
      tokens.push_back(random_.below(50) ? script[p] : random_.below(3));
    if (tokens.empty()) return;
    const PageTables before = session.tables();
    const int free_before = pool_->free_pages();
    for (;;) {
      const bool fits = static_cast<int64_t>(tokens.size()) <= session.room(pool_->free_pages());
      try {
        session.reserve(tokens);
        CHECK(fits, "operation %d: room() said that %zu tokens do not fit", operation_, tokens.size());
        break;
      } catch (const OutOfPages&) {
        CHECK(!fits, "operation %d: room() said that %zu tokens fit", operation_, tokens.size());
        CHECK(session.tables().full == before.full && session.tables().window == before.window &&
                  session.copies().empty() && pool_->free_pages() >= free_before,
              "operation %d: reserve() failed and left a trace", operation_);
        if (evict()) continue;
        ++refusals;
        return;
      }
    }
    copies += static_cast<int>(session.copies().size());
    const bool fails = random_.below(4) == 0;
    if (fails && random_.below(2)) {  // before the copies were made
      ++failed_steps;
      session.rollback();
      CHECK(session.tables().full == before.full && session.tables().window == before.window &&
                session.copies().empty(),
            "operation %d: rollback() left other tables", operation_);
      return;
    }
    PageTables owned = before;  // with the session's own page where a shared one would have been written
    for (const auto& copy : session.copies()) {
      memory_[copy.to] = memory_[copy.from];
      for (auto* table : {&owned.full, &owned.window})
        std::replace(table->begin(), table->end(), copy.from, copy.to);
    }
    session.copied();
    const auto marks = prefix_marks(joined(session.tokens().all(), tokens));
    for (int p = session.length(); p < static_cast<int>(marks.size()); ++p) {
      const uint64_t mark = fails ? 666 : marks[p];
      if (has(LayerType::full_attention)) slot(session.tables().full, p) = mark;
      if (has(LayerType::sliding_attention)) slot(session.tables().window, p) = ~mark;
    }
    if (fails) {
      ++failed_steps;
      session.rollback();
      CHECK(session.tables().full == owned.full && session.tables().window == owned.window &&
                session.copies().empty(),
            "operation %d: rollback() left other tables", operation_);
    } else {
      // Places on the way, the end among them.
      std::vector<int> places;
      for (int p = session.length(); p < static_cast<int>(marks.size()); ++p)
        if (random_.below(60) == 0) places.push_back(p + 1);
      for (auto& snapshot : session.commit(places)) {
        CHECK(snapshot->tokens().all() == slice(session.tokens().all(), 0, places.front()),
              "operation %d: another place than %d", operation_, places.front());
        places.erase(places.begin());
        on_the_way += snapshot->tokens().length() < session.length();
        remember(std::move(snapshot), true);
      }
    }
  }

  void truncate(Session& session) {
    const Tokens before = session.tokens().all();
    const int to = random_.below(2) ? session.length() - random_.below(kRollbackReserve + 1)
                                    : random_.below(session.length() + 1);
    const int got = session.truncate(to);
    CHECK(got == session.length() && (got == std::max(to, 0) || got == 0),
          "operation %d: truncate(%d) gave %d", operation_, to, got);
    CHECK(session.tokens().all() == slice(before, 0, got),
          "operation %d: truncate(%d) changed tokens", operation_, to);
  }

  void remember(const Session& session) {
    const int last_sees = std::max(0, session.length() - config_.sliding_window);
    const auto& window = session.tables().window;
    remember(session.snapshot(), !window.empty() && session.length() > 0 && window[last_sees / kPageTokens] >= 0);
  }

  // `by_last`: it holds what its last token sees, not only what the next one does.
  void remember(std::shared_ptr<const Snapshot> snapshot, bool by_last) {
    const int length = snapshot->tokens().length();
    const Seen place{snapshot->tokens().all(), snapshot->tables(), length - config_.sliding_window + !by_last};
    cache_.add(std::move(snapshot));
    if (place.tokens.empty() || capacity_ == 0) return;
    const auto known =
        std::find_if(seen_.begin(), seen_.end(), [&](const Seen& s) { return s.tokens == place.tokens; });
    if (known != seen_.end()) {
      std::rotate(seen_.begin(), known, known + 1);
    } else {
      seen_.insert(seen_.begin(), place);
      if (static_cast<int>(seen_.size()) > capacity_) seen_.pop_back();
    }
  }

  void reopen(std::unique_ptr<Session>& session) {
    const Tokens& script = scripts_[random_.below(4)];
    Tokens tokens(script.begin(), script.begin() + random_.below(kLongest + 1));
    if (!seen_.empty() && random_.below(2))
      tokens = seen_[random_.below(static_cast<int>(seen_.size()))].tokens;
    if (random_.below(2)) tokens.push_back(7);
    auto best = seen_.end();
    const size_t longest = tokens.size() - random_.below(2) * std::min<size_t>(tokens.size(), 1);
    for (auto it = seen_.begin(); it != seen_.end(); ++it)
      if (it->tokens.size() <= longest &&
          std::equal(it->tokens.begin(), it->tokens.end(), tokens.begin()) &&
          (best == seen_.end() || it->tokens.size() > best->tokens.size()))
        best = it;
    const auto found = cache_.find(tokens, static_cast<int64_t>(longest));
    CHECK((found != nullptr) == (best != seen_.end()), "operation %d: find() of %zu tokens", operation_,
          tokens.size());
    if (found && best != seen_.end()) {
      CHECK(found->tokens().all() == best->tokens, "operation %d: found %d tokens, the longest has %zu",
            operation_, found->tokens().length(), best->tokens.size());
      CHECK(found->tables().full == best->tables.full && found->tables().window == best->tables.window,
            "operation %d: other pages", operation_);
      std::rotate(seen_.begin(), best, best + 1);
      ++resumed;
    }
    session = std::make_unique<Session>(pool_, config_, found.get());
  }

  // The least recently used checkpoint goes, of those with a page that no session holds.
  bool evict() {
    std::map<int, int> in_use;
    for (const auto& session : live_) count(in_use, session->tables());
    const auto holds_back = [&](const Seen& s) {
      std::map<int, int> pages;
      count(pages, s.tables);
      return std::any_of(pages.begin(), pages.end(), [&](const auto& page) { return !in_use.count(page.first); });
    };
    const auto victim = std::find_if(seen_.rbegin(), seen_.rend(), holds_back);
    const bool evicted = cache_.evict();
    CHECK(evicted == (victim != seen_.rend()), "operation %d: evict()", operation_);
    if (victim != seen_.rend()) {
      spared += victim != seen_.rbegin();
      seen_.erase(std::next(victim).base());
    }
    return evicted;
  }

  uint64_t& slot(const std::vector<int32_t>& table, int position) {
    return memory_[table[position / kPageTokens]][position % kPageTokens];
  }

  // Every slot from the first one that is still seen holds what that sequence put there.
  void check_slots(const char* what, const Tokens& tokens, const PageTables& tables, int first_seen) {
    const auto marks = prefix_marks(tokens);
    const int length = static_cast<int>(tokens.size());
    for (int p = 0; p < length; ++p) {
      if (has(LayerType::full_attention))
        CHECK(slot(tables.full, p) == marks[p], "operation %d: %s: full slot %d of %d", operation_, what, p,
              length);
      if (!has(LayerType::sliding_attention)) continue;
      const bool held = tables.window[p / kPageTokens] >= 0;
      CHECK(held || p < first_seen, "operation %d: %s: window slot %d of %d is gone", operation_,
            what, p, length);
      if (held)
        CHECK(slot(tables.window, p) == ~marks[p], "operation %d: %s: window slot %d of %d", operation_, what,
              p, length);
    }
  }

  static void count(std::map<int, int>& holders, const PageTables& tables) {
    for (const auto* table : {&tables.full, &tables.window})
      for (int page : *table)
        if (page >= 0) ++holders[page];
  }

  std::map<int, int> pages_of_cache() const {
    std::map<int, int> holders;
    for (const Seen& s : seen_) count(holders, s.tables);
    return holders;
  }

  void check() {
    std::map<int, int> holders = pages_of_cache();
    for (const Seen& s : seen_) check_slots("checkpoint", s.tokens, s.tables, s.first);
    for (const auto& session : live_) {
      count(holders, session->tables());
      check_slots("session", session->tokens().all(), session->tables(), session->length() - config_.sliding_window + 1);
    }
    CHECK(cache_.size() == static_cast<int>(seen_.size()), "operation %d: %d checkpoints, wanted %zu",
          operation_, cache_.size(), seen_.size());
    CHECK(pool_->free_pages() == pool_->pages() - static_cast<int>(holders.size()),
          "operation %d: %d free of %d with %zu held", operation_, pool_->free_pages(), pool_->pages(),
          holders.size());
    for (const auto& [page, n] : holders)
      CHECK(pool_->references(page) == n, "operation %d: page %d has %d holders", operation_, page, n);
  }

  Config config_;
  Random random_;
  int capacity_, operation_ = 0;
  std::shared_ptr<PagePool> pool_;
  PrefixCache cache_;
  std::vector<Page> memory_;
  std::vector<Tokens> scripts_;
  std::vector<Seen> seen_;  // most recently used first
  std::array<std::unique_ptr<Session>, kSessions> live_;
};

inline void random_lives(int operations) {
  const LayerType full = LayerType::full_attention, sliding = LayerType::sliding_attention;
  uint64_t seed = 0;
  int spared = 0;
  for (const auto& types : {std::vector{sliding, full}, std::vector{full}, std::vector{sliding}})
    for (int window : {1, 63, 64, 65, 128})
      for (bool scarce : {false, true}) {
        if (types.size() == 1 && window != 1 && window != 65) continue;
        Config config;
        config.layer_types = types;
        config.num_hidden_layers = static_cast<int>(types.size());
        config.sliding_window = window;
        ++seed;
        RandomLife life(config, scarce ? 7 * config.num_hidden_layers : 200,
                        scarce ? 12 : 1 + 3 * static_cast<int>(seed % 3), seed);
        life.run(operations);
        spared += life.spared;
        CHECK(life.copies > 0 && life.resumed > 0 && life.failed_steps > 0 && life.on_the_way > 0 &&
                  (!scarce || life.refusals > 0),
              "nothing was tested: %d copies, %d resumed, %d failed, %d on the way, %d refused", life.copies,
              life.resumed, life.failed_steps, life.on_the_way, life.refusals);
        if (failures)
          std::printf("(window %d, %zu layer types, %s)\n", window, types.size(),
                      scarce ? "scarce" : "plenty");
      }
  CHECK(spared > 0, "no checkpoint was ever kept because others use its pages");
}

}  // namespace test
