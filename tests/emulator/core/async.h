// Operations that an instruction starts and that complete later: copies, and products of the tensor cores.
//
// A copy lands at a random moment between its start and the point by which the program has made sure of it. What
// waits too little, or for the wrong thing, then reads the poison or the old values that were there before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "clock.h"
#include "where.h"

namespace emulator {

struct Thread;
struct Block;

struct AsyncOperation {
  const char* name = "";
  Where where;
  bool landed = false;
  std::function<void()> land;     // does what it does; called once
  std::function<void()> release;  // for who has waited for it: gives back what it used
  char* to = nullptr;             // of a thread's own copy: where, and
  size_t bytes = 0;               // how much
};
using AsyncPointer = std::shared_ptr<AsyncOperation>;

// Puts it among what the block has in flight; it may land from now on.
void start(Block& block, AsyncPointer operation);
void complete(AsyncOperation& operation);
// At a switch of threads: chance decides what lands. Returns whether something did.
bool land_some(Block& block, double probability);

// cp.async: copies of one thread, in groups that complete in order.
struct CopyGroups {
  std::vector<AsyncPointer> open;
  std::deque<std::vector<AsyncPointer>> committed;
};

// An mbarrier: a phase completes when nothing is pending, neither arrivals nor bytes.
struct MBarrier {
  int expected = 0;  // arrivals of a phase
  int pending = 0;   // arrivals that this phase still waits for
  int64_t bytes = 0;  // expected and not yet there; negative when they came before they were expected
  uint64_t phase = 0;
  int maker = 0;        // the thread that initialised it, and
  bool fenced = false;  // whether it made that known to the async proxy
  Clock clock;        // what those who arrived know, of this phase; and
  Clock completed;    // of the phases before it
  Where made;
};

// One warpgroup's wgmma instructions, which execute in order.
struct Accumulators {  // taken from a thread's registers while products are in flight
  std::vector<float> values;
  int users = 0;
};
struct Warpgroup {
  bool fenced = false;  // wgmma.fence since the registers were the program's
  AsyncPointer newest;
  std::vector<AsyncPointer> open;
  std::deque<std::vector<AsyncPointer>> committed;
  std::map<float*, Accumulators> held;
};

}  // namespace emulator
