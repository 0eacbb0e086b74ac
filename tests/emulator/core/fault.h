// Reports: what went wrong, in which kernel, block and thread, at which line.
#pragma once

#include <string>
#include <vector>

#include "where.h"

namespace emulator {

struct Thread;

// Names that tests and readers can rely on.
enum class Kind {
  kDivergence,     // a collective or barrier that only some of the threads reached
  kDeadlock,       // nothing can run any more
  kAbsentLane,     // a value was read from a lane that takes no part
  kOutOfBounds,    // outside an allocation, or in one that was freed
  kHostMemory,     // a kernel touched memory that only the host has
  kMisaligned,     // an address that the access or instruction does not allow
  kRace,           // two accesses, one of them a write, with nothing that orders them
  kInFlight,       // memory or registers that an asynchronous operation still uses
  kProxyFence,     // written by threads, read by the async proxy, with no fence.proxy.async between
  kInstruction,    // an operand that the instruction does not allow
  kLaunch,         // a launch or call that the device would refuse
};
const char* name(Kind kind);

struct Fault {
  Kind kind;
  std::string kernel, message, where;
  std::string text() const;
};

// Notes the fault, prints it, and ends the grid: never returns to the kernel.
[[noreturn]] void fault(Kind kind, Where where, const char* format, ...) __attribute__((format(printf, 3, 4)));
[[noreturn]] void fault_of(Thread& thread, Kind kind, Where where, const char* format, ...)
    __attribute__((format(printf, 4, 5)));
// For the host's side: notes and prints, and returns.
void note_fault(Kind kind, const std::string& kernel, const std::string& where, const std::string& message);

// What was noted since the last call.
std::vector<Fault> take_faults();
bool has_faults();
// Printing to stderr: on by default.
void print_faults(bool on);

}  // namespace emulator
