// KV pages and who holds them.
#pragma once

#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace gptoss {

struct OutOfPages : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Counts references to the pages of one pool; what is in them is the device's. Any thread may give pages back.
class PagePool {
 public:
  explicit PagePool(int pages);

  int take();  // a page with one reference; throws OutOfPages
  void retain(int page);
  void release(int page);
  int references(int page) const;
  int free_pages() const;
  int pages() const { return static_cast<int>(references_.size()); }

 private:
  mutable std::mutex mutex_;
  std::vector<int32_t> free_;
  std::vector<int32_t> references_;
};

// Two tables, because sliding layers forget: page i of a table holds positions [64 i, 64 i + 64), or is -1.
struct PageTables {
  std::vector<int32_t> full;
  std::vector<int32_t> window;
};

}  // namespace gptoss
