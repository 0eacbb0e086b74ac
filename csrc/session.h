// The KV cache of one sequence: which tokens it holds, in which pages.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "backend.h"
#include "pages.h"
#include "shared_tokens.h"

namespace gptoss {

// Tokens that stay in the sliding layers' cache behind the window, so that a few can be taken back.
inline constexpr int kRollbackReserve = 64;

// Pages of the full-attention layers that hold `tokens`.
int64_t full_pages(const Config& config, int64_t tokens);
// Pages of the sliding layers that a sequence of `max_context` tokens can hold at once, while a step adds `max_tokens`.
int64_t window_pages(const Config& config, int max_context, int max_tokens);
// Pages of the sliding layers that a snapshot pins.
int64_t pages_per_snapshot(const Config& config, int max_context);

// A place to resume from: the tokens up to there and references to the pages that hold them, of the sliding
// layers only those that its last token and the next one see, so that a prompt which ends here can be resumed and its
// last token computed again. Immutable; a few references are all it costs.
class Snapshot {
 public:
  Snapshot(std::shared_ptr<PagePool> pool, SharedTokens tokens, PageTables tables);
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  const SharedTokens& tokens() const { return tokens_; }
  const PageTables& tables() const { return tables_; }
  const PagePool& pool() const { return *pool_; }

 private:
  std::shared_ptr<PagePool> pool_;
  SharedTokens tokens_;
  PageTables tables_;
};

class Session {
 public:
  // Empty, or holding what `from` holds.
  Session(std::shared_ptr<PagePool> pool, const Config& config, const Snapshot* from = nullptr);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The cache holds exactly the tokens [0, length()).
  int length() const { return length_; }
  const SharedTokens& tokens() const { return tokens_; }
  const PageTables& tables() const { return tables_; }

  // A step is a transaction: reserve() makes room for `tokens` more, or throws OutOfPages and changes nothing;
  // then either commit() makes them part of the cache or rollback() gives the room back. commit() also takes
  // snapshots on the way: `places` are lengths, from the one before the step to the one after it.
  //
  // A step may be reserved behind another that is not committed yet. commit() is the oldest one's, rollback() gives all
  // of them up, rollback_last() only the newest.
  //
  // A page that others hold too may not be written: where the next slot lies in one, reserve() puts a fresh page
  // in its place and names the pair in copies(). The caller copies, and says so with copied(); until then the
  // session holds both pages, and rollback() puts the old one back.
  struct Copy {
    std::vector<int32_t>* table;
    int from, to;
    int index;  // in the table
  };
  void reserve(std::span<const int32_t> tokens);
  // How many tokens reserve() would find room for with so many free pages.
  int64_t room(int64_t free_pages) const;
  const std::vector<Copy>& copies() const { return copies_; }
  void copied();
  std::vector<std::shared_ptr<const Snapshot>> commit(std::span<const int> places = {});
  void rollback();
  void rollback_last();
  // Where the next reservation begins.
  int reserved_end() const;
  bool is_reserved() const { return !reserved_.empty(); }
  // The first token of the oldest reservation, which was not known when it was made.
  void settle(int32_t token) { reserved_.front().front() = token; }

  // Forgets the tokens from `length` on. Returns the new length: smaller (0) where the window that the next
  // token would need is gone already.
  int truncate(int length);

  // Of where it stands.
  std::shared_ptr<const Snapshot> snapshot() const { return snapshot(length()); }

 private:
  std::shared_ptr<const Snapshot> snapshot(int length) const;
  void take_pages(std::vector<int32_t>& table, int end);
  void drop_pages(std::vector<int32_t>& table, int end);
  bool last_page_is_shared(const std::vector<int32_t>& table) const;
  void own_last_page(std::vector<int32_t>& table);
  void give_back(int end);

  std::shared_ptr<PagePool> pool_;
  int window_;
  bool has_full_, has_window_;
  SharedTokens tokens_;
  std::deque<std::vector<int32_t>> reserved_;  // the oldest first
  std::atomic<int> length_ = 0;  // of tokens_; Python may ask while a step of another thread commits
  std::vector<Copy> copies_;
  int window_first_ = 0;  // first page of the window table that is still held
  PageTables tables_;
};

}  // namespace gptoss
