#include "session.h"

#include <algorithm>
#include <utility>

namespace gptoss {
namespace {

int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// "No window" is written as a huge one; sums with it must not overflow.
int window_of(const Config& config) { return std::min(config.sliding_window, 1 << 30); }

}  // namespace

int64_t pages_per_sequence(const Config& config, int max_context, int max_tokens) {
  const int64_t full = config.layers_of(LayerType::full_attention) > 0 ? pages_for(max_context) : 0;
  if (config.layers_of(LayerType::sliding_attention) == 0) return full;
  // The kept tokens may begin and end inside a page.
  const int64_t window = pages_for(int64_t{window_of(config)} + kRollbackReserve + max_tokens) + 1;
  return full + std::min(window, pages_for(max_context));
}

Session::Session(std::shared_ptr<PagePool> pool, const Config& config)
    : pool_(std::move(pool)),
      window_(window_of(config)),
      has_full_(config.layers_of(LayerType::full_attention) > 0),
      has_window_(config.layers_of(LayerType::sliding_attention) > 0) {}

Session::~Session() {
  drop_pages(tables_.full, 0);
  drop_pages(tables_.window, 0);
}

void Session::take_pages(std::vector<int32_t>& table, int end) {
  while (static_cast<int>(table.size()) < end) table.push_back(pool_->take());
}

void Session::drop_pages(std::vector<int32_t>& table, int end) {
  while (static_cast<int>(table.size()) > end) {
    if (table.back() >= 0) pool_->release(table.back());
    table.pop_back();
  }
}

void Session::reserve(int tokens) {
  try {
    if (has_full_) take_pages(tables_.full, static_cast<int>(pages_for(length_ + tokens)));
    if (has_window_) take_pages(tables_.window, static_cast<int>(pages_for(length_ + tokens)));
    reserved_ = tokens;
  } catch (const OutOfPages&) {
    rollback();
    throw;
  }
}

void Session::rollback() {
  reserved_ = 0;
  drop_pages(tables_.full, has_full_ ? static_cast<int>(pages_for(length_)) : 0);
  drop_pages(tables_.window, has_window_ ? static_cast<int>(pages_for(length_)) : 0);
}

void Session::commit() {
  length_ += reserved_;
  reserved_ = 0;
  const int oldest = std::max(0, length_ - window_ - kRollbackReserve);
  for (; has_window_ && window_first_ < oldest / kPageTokens; ++window_first_) {
    pool_->release(tables_.window[window_first_]);
    tables_.window[window_first_] = -1;
  }
}

int Session::truncate(int length) {
  if (length >= length_) return length_;
  const int oldest_needed = std::max(0, length - window_ + 1);
  if (length < 0 || (has_window_ && oldest_needed < window_first_ * kPageTokens)) length = 0;
  length_ = length;
  if (length == 0) window_first_ = 0;
  rollback();
  return length_;
}

}  // namespace gptoss
