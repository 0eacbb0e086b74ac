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

int64_t full_pages(const Config& config, int64_t tokens) {
  return config.layers_of(LayerType::full_attention) > 0 ? pages_for(tokens) : 0;
}

int64_t window_pages(const Config& config, int max_context, int max_tokens) {
  if (config.layers_of(LayerType::sliding_attention) == 0) return 0;
  // The kept tokens may begin and end inside a page.
  return std::min(pages_for(int64_t{window_of(config)} + kRollbackReserve + max_tokens) + 1, pages_for(max_context));
}

int64_t pages_per_snapshot(const Config& config, int max_context) {
  if (config.layers_of(LayerType::sliding_attention) == 0) return 0;
  // `window` tokens, which may begin inside a page.
  return std::min(pages_for(window_of(config)) + 1, pages_for(max_context));
}

Snapshot::Snapshot(std::shared_ptr<PagePool> pool, SharedTokens tokens, PageTables tables)
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
  length_ = tokens_.length();
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

int Session::reserved_end() const {
  int end = length();
  for (const auto& tokens : reserved_) end += static_cast<int>(tokens.size());
  return end;
}

bool Session::last_page_is_shared(const std::vector<int32_t>& table) const {
  const int end = reserved_end();
  if (end % kPageTokens == 0) return false;  // the next slot begins a page of its own
  return pool_->references(table[end / kPageTokens]) > 1;
}

void Session::own_last_page(std::vector<int32_t>& table) {
  if (!last_page_is_shared(table)) return;
  const int index = reserved_end() / kPageTokens;
  copies_.reserve(2);
  const int fresh = pool_->take();
  copies_.push_back({&table, table[index], fresh, index});
  table[index] = fresh;
}

void Session::reserve(std::span<const int32_t> tokens) {
  const int begin = reserved_end();
  const int end = static_cast<int>(pages_for(begin + static_cast<int64_t>(tokens.size())));
  try {
    if (has_full_) own_last_page(tables_.full);
    if (has_window_) own_last_page(tables_.window);
    if (has_full_) take_pages(tables_.full, end);
    if (has_window_) take_pages(tables_.window, end);
    reserved_.emplace_back(tokens.begin(), tokens.end());
  } catch (...) {
    give_back(begin);
    throw;
  }
}

int64_t Session::room(int64_t free_pages) const {
  const int kinds = has_full_ + has_window_;
  if (has_full_) free_pages -= last_page_is_shared(tables_.full);
  if (has_window_) free_pages -= last_page_is_shared(tables_.window);
  if (free_pages < 0) return 0;
  const int end = reserved_end();
  return pages_for(end) * kPageTokens - end + free_pages / kinds * kPageTokens;
}

void Session::copied() {
  for (const Copy& copy : copies_) pool_->release(copy.from);
  copies_.clear();
}

void Session::rollback() {
  reserved_.clear();
  give_back(length());
}

void Session::rollback_last() {
  reserved_.pop_back();
  give_back(reserved_end());
}

// The pages that nothing before `end` lies in.
void Session::give_back(int end) {
  for (const Copy& copy : copies_) {  // not made: what the page held is still in the old one
    (*copy.table)[copy.index] = copy.from;
    pool_->release(copy.to);
  }
  copies_.clear();
  drop_pages(tables_.full, has_full_ ? static_cast<int>(pages_for(end)) : 0);
  drop_pages(tables_.window, has_window_ ? static_cast<int>(pages_for(end)) : 0);
}

std::vector<std::shared_ptr<const Snapshot>> Session::commit(std::span<const int> places) {
  tokens_.append(reserved_.front());
  length_ = tokens_.length();
  reserved_.pop_front();
  std::vector<std::shared_ptr<const Snapshot>> snapshots;  // before the pages behind the window go
  for (int place : places) snapshots.push_back(snapshot(place));
  const int oldest = std::max(0, length() - window_ - kRollbackReserve);
  for (; has_window_ && window_first_ < oldest / kPageTokens; ++window_first_) {
    pool_->release(tables_.window[window_first_]);
    tables_.window[window_first_] = -1;
  }
  return snapshots;
}

int Session::truncate(int length) {
  if (length >= length_) return length_;
  const int oldest_needed = std::max(0, length - window_ + 1);
  if (length < 0 || (has_window_ && oldest_needed < window_first_ * kPageTokens)) length = 0;
  tokens_.cut(length);
  length_ = length;
  if (length == 0) window_first_ = 0;
  rollback();
  return length;
}

std::shared_ptr<const Snapshot> Session::snapshot(int length) const {
  const auto first_pages = [length](const std::vector<int32_t>& table) {
    return std::vector<int32_t>(table.begin(), table.begin() + std::min<int64_t>(std::ssize(table), pages_for(length)));
  };
  PageTables seen{first_pages(tables_.full), first_pages(tables_.window)};
  // The last token is at length - 1: it sees the window - 1 tokens before it.
  const int unseen = std::max(0, length - window_) / kPageTokens;
  std::fill_n(seen.window.begin(), std::min<int64_t>(unseen, std::ssize(seen.window)), -1);
  return std::make_shared<Snapshot>(pool_, tokens_.first(length), std::move(seen));
}

}  // namespace gptoss
