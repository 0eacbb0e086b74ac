// The KV cache of one sequence: which pages hold which positions.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend.h"
#include "pages.h"

namespace gptoss {

// Tokens that stay in the sliding layers' cache behind the window, so that a few can be taken back.
inline constexpr int kRollbackReserve = 64;

// Two tables, because sliding layers forget: page i of a table holds positions [64 i, 64 i + 64), or is -1.
struct PageTables {
  std::vector<int32_t> full;
  std::vector<int32_t> window;
};

class Session {
 public:
  Session(std::shared_ptr<PagePool> pool, const Config& config);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // The cache holds exactly the tokens [0, length()).
  int length() const { return length_; }
  const PageTables& tables() const { return tables_; }

  // A step is a transaction: reserve() makes room for `tokens` more, or throws OutOfPages and changes nothing;
  // then either commit() makes them part of the cache or rollback() gives the room back.
  void reserve(int tokens);
  void commit();
  void rollback();

  // Forgets the tokens from `length` on. Returns the new length: smaller (0) where the window that the next
  // token would need is gone already.
  int truncate(int length);

 private:
  void take_pages(std::vector<int32_t>& table, int end);
  void drop_pages(std::vector<int32_t>& table, int end);

  std::shared_ptr<PagePool> pool_;
  int window_;
  bool has_full_, has_window_;
  std::atomic<int> length_ = 0;  // Python may ask while a step of another thread commits
  int reserved_ = 0;
  int window_first_ = 0;  // first page of the window table that is still held
  PageTables tables_;
};

// Pages that one sequence of `max_context` tokens can hold at once, while a step adds `max_tokens`.
int64_t pages_per_sequence(const Config& config, int max_context, int max_tokens);

}  // namespace gptoss
