#include "pages.h"

#include <string>

namespace gptoss {

PagePool::PagePool(int pages) : references_(static_cast<size_t>(pages), 0) {
  for (int page = pages - 1; page >= 0; --page) free_.push_back(page);  // low pages first
}

int PagePool::take() {
  std::lock_guard lock(mutex_);
  if (free_.empty()) throw OutOfPages("the KV cache is full: all " + std::to_string(pages()) + " pages are in use");
  const int page = free_.back();
  free_.pop_back();
  references_[page] = 1;
  return page;
}

void PagePool::retain(int page) {
  std::lock_guard lock(mutex_);
  ++references_[page];
}

void PagePool::release(int page) {
  std::lock_guard lock(mutex_);
  if (--references_[page] == 0) free_.push_back(page);
}

int PagePool::references(int page) const {
  std::lock_guard lock(mutex_);
  return references_[page];
}

int PagePool::free_pages() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(free_.size());
}

}  // namespace gptoss
