#include "session.h"

#include <algorithm>
#include <utility>

namespace gptoss {
namespace {

int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

// "No window" is written as a huge one; sums with it must not overflow.
int window_of(const Config& config) { return std::min(config.sliding_window, 1 << 30); }

void retain(PagePool& pool, const PageTables& tables) {
  for (const auto* table : {&tables.full, &tables.window})
    for (int32_t page : *table)
      if (page >= 0) pool.retain(page);
}

}  // namespace

int64_t pages_per_sequence(const Config& config, int max_context, int max_tokens) {
  const int64_t full = config.layers_of(LayerType::full_attention) > 0 ? pages_for(max_context) : 0;
  if (config.layers_of(LayerType::sliding_attention) == 0) return full;
  // The kept tokens may begin and end inside a page.
  const int64_t window = pages_for(int64_t{window_of(config)} + kRollbackReserve + max_tokens) + 1;
  return full + std::min(window, pages_for(max_context));
}

int64_t pages_per_snapshot(const Config& config, int max_context) {
  if (config.layers_of(LayerType::sliding_attention) == 0) return 0;
  return std::min(pages_for(window_of(config)) + 1, pages_for(max_context));
}

Snapshot::Snapshot(std::shared_ptr<PagePool> pool, std::vector<int32_t> tokens, PageTables tables)
    : pool_(std::move(pool)), tokens_(std::move(tokens)), tables_(std::move(tables)) {
  retain(*pool_, tables_);
}

Snapshot::~Snapshot() {
  for (const auto* table : {&tables_.full, &tables_.window})
    for (int32_t page : *table)
      if (page >= 0) pool_->release(page);
}

Session::Session(std::shared_ptr<PagePool> pool, const Config& config, const Snapshot* from)
    : pool_(std::move(pool)),
      window_(window_of(config)),
      has_full_(config.layers_of(LayerType::full_attention) > 0),
      has_window_(config.layers_of(LayerType::sliding_attention) > 0) {
  if (!from) return;
  tokens_ = from->tokens();
  length_ = static_cast<int>(tokens_.size());
  tables_ = from->tables();
  retain(*pool_, tables_);
  while (window_first_ < static_cast<int>(tables_.window.size()) && tables_.window[window_first_] < 0) ++window_first_;
}

Session::~Session() {
  drop_pages(tables_.full, 0);
  drop_pages(tables_.window, 0);
}

void Session::take_pages(std::vector<int32_t>& table, int end) {
  table.reserve(static_cast<size_t>(end));  // so that no page is lost between take() and push_back()
  while (static_cast<int>(table.size()) < end) table.push_back(pool_->take());
}

void Session::drop_pages(std::vector<int32_t>& table, int end) {
  while (static_cast<int>(table.size()) > end) {
    if (table.back() >= 0) pool_->release(table.back());
    table.pop_back();
  }
}

void Session::own_last_page(std::vector<int32_t>& table) {
  if (length() % kPageTokens == 0) return;  // the next slot begins a page of its own
  int32_t& page = table[length() / kPageTokens];
  if (!pool_->shared(page)) return;
  copies_.reserve(2);
  const int fresh = pool_->take();
  copies_.push_back({&table, page, fresh});
  page = fresh;
}

void Session::reserve(std::span<const int32_t> tokens) {
  const int end = static_cast<int>(pages_for(length() + static_cast<int64_t>(tokens.size())));
  try {
    reserved_.assign(tokens.begin(), tokens.end());
    if (has_full_) own_last_page(tables_.full);
    if (has_window_) own_last_page(tables_.window);
    if (has_full_) take_pages(tables_.full, end);
    if (has_window_) take_pages(tables_.window, end);
  } catch (...) {
    rollback();
    throw;
  }
}

void Session::copied() {
  for (const Copy& copy : copies_) pool_->release(copy.from);
  copies_.clear();
}

void Session::rollback() {
  for (const Copy& copy : copies_) {  // not made: what the page held is still in the old one
    (*copy.table)[length() / kPageTokens] = copy.from;
    pool_->release(copy.to);
  }
  copies_.clear();
  reserved_.clear();
  drop_pages(tables_.full, has_full_ ? static_cast<int>(pages_for(length())) : 0);
  drop_pages(tables_.window, has_window_ ? static_cast<int>(pages_for(length())) : 0);
}

void Session::commit() {
  tokens_.insert(tokens_.end(), reserved_.begin(), reserved_.end());
  length_ = static_cast<int>(tokens_.size());
  reserved_.clear();
  const int oldest = std::max(0, length() - window_ - kRollbackReserve);
  for (; has_window_ && window_first_ < oldest / kPageTokens; ++window_first_) {
    pool_->release(tables_.window[window_first_]);
    tables_.window[window_first_] = -1;
  }
}

int Session::truncate(int length) {
  if (length >= length_) return length_;
  const int oldest_needed = std::max(0, length - window_ + 1);
  if (length < 0 || (has_window_ && oldest_needed < window_first_ * kPageTokens)) length = 0;
  tokens_.resize(static_cast<size_t>(length));
  length_ = length;
  if (length == 0) window_first_ = 0;
  rollback();
  return length;
}

std::shared_ptr<const Snapshot> Session::snapshot() const {
  PageTables seen = tables_;
  // The next token is at length(): it sees the window - 1 tokens before it.
  const int first = std::max(0, length() - window_ + 1) / kPageTokens;
  for (int page = 0; page < std::min<int>(first, static_cast<int>(seen.window.size())); ++page) seen.window[page] = -1;
  return std::make_shared<Snapshot>(pool_, tokens_, std::move(seen));
}

}  // namespace gptoss
