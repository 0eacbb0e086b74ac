// Tensor memory of a block, and who may touch it when: the rules of the PTX ISA, 9.7.16.6.
//
// An operation (a product, a copy, a load) that touches what an earlier one touches, one of them writing, has to come behind
// it. It does when the earlier one is done, as far as this thread can know: by a commit and its mbarrier, or the wait of a load;
// and, since it heard of that, it has executed tcgen05.fence::after_thread_sync. Behind a copy a product comes, and behind a
// product one with the same sums, also where the earlier one is not done, if one thread starts both, or the first one's fence,
// a barrier and the second one's fence are between. Operations land at random within these limits.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "../core/machine.h"

namespace emulator {

constexpr int kTensorLanes = 128, kTensorColumns = 512, kTensorQuarters = 4, kQuarterLanes = kTensorLanes / kTensorQuarters;

struct TensorOperation {
  enum class Kind { kProduct, kCopy, kLoad };
  Kind kind;
  AsyncPointer async = std::make_shared<AsyncOperation>();
  int thread;                                            // who started it, by the linear number; of a warp its first one
  std::vector<uint32_t> released;                        // for each of these, its own count at its fence behind; 0: not yet
  uint32_t sums = 0, shape = 0;                          // of a product
  std::vector<std::shared_ptr<TensorOperation>> before;  // that land first
  bool done = false;                                     // tracked by a commit that has landed, or waited for
  uint32_t count = 0;                                    // the agent's since then, of products and copies
};
using TensorOperationPointer = std::shared_ptr<TensorOperation>;

struct TensorMemory {
  struct Place {  // a column of a quarter
    TensorOperationPointer writer;
    std::vector<TensorOperationPointer> readers;  // since
  };
  struct Allocation {
    int columns, thread;
    uint32_t count;  // the thread's own when it was made
    Where where;
  };
  struct OfThread {
    Clock known;                                  // at its last tcgen05.fence::after_thread_sync
    std::vector<TensorOperationPointer> started;  // and not done or not released
  };

  explicit TensorMemory(Block& block);
  uint32_t& cell(int lane, int column) { return cells[lane * kTensorColumns + column]; }

  Block& block;
  std::vector<uint32_t> cells;
  std::vector<Place> places;
  std::map<int, Allocation> allocations;  // by the first column
  std::vector<OfThread> threads;
  int last_columns = kTensorColumns;
  bool relinquished = false;
  int unfinished = 0;  // operations that are not done, and commits that have not landed
};

// Of the current thread's block.
TensorMemory& tensor_memory();

TensorOperationPointer make_operation(TensorOperation::Kind kind, const char* name, Where where, int threads = 1);
// The operation writes or reads columns [column, column + columns) of all quarters, or of one.
struct Touch {
  uint32_t address;
  int columns;
  bool write;
  int quarter = -1;
};
void touch(TensorMemory& memory, const TensorOperationPointer& operation, const Touch& touch, const char* name, Site site);
// Puts it among what is in flight.
void start(TensorMemory& memory, const TensorOperationPointer& operation);

}  // namespace emulator
