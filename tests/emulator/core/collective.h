// Operations that several lanes do together: shuffles, votes, matrix products.
//
// Each lane brings an operand and waits; the last one to come does the operation for all. How many have to come is
// the operation's scope.
#pragma once

#include <cstdint>

#include "machine.h"

namespace emulator {

enum class Scope {
  kMask,       // the lanes of a mask, which all must name the same; lanes that left the kernel are not waited for
  kActive,     // the lanes of a wave that execute this instruction together: lockstep hardware without a mask
  kWarp,       // all lanes of a warp, at the same instruction
  kWarpgroup,  // 128 threads, at the same instruction
};

struct Participants {
  Block* block;
  int first;                       // linear index of the group's first thread
  int size;                        // 32, 64 or 128
  Thread* thread[kMaxGroup] = {};  // null: takes no part
  template <class T>
  T& operand(int i) const {
    return *static_cast<T*>(thread[i]->operand);
  }
};

struct Collective {
  const char* name;
  Scope scope;
  void (*apply)(Participants&);
};

// Takes part: brings `operand`, waits for the others, and finds the result in it. `mask` is of Scope::kMask.
void collect(const Collective& collective, uint64_t mask, void* operand, Site site);

// For the scheduler, when nothing else can run: wakes a lane to do an operation for those who are there, where
// nobody else can come any more. Returns whether there was one.
bool wake_a_leader(Block& block);

}  // namespace emulator
