#include "fault.h"

#include <cstdarg>
#include <cstdio>
#include <utility>

#include "machine.h"

namespace emulator {
namespace {

std::vector<Fault> faults;
bool printing = true;

std::string format_text(const char* format, va_list arguments) {
  char text[2048];
  std::vsnprintf(text, sizeof text, format, arguments);
  return text;
}

void note_fault_of(Thread& thread, Kind kind, Where where, std::string message) {
  const Dim3 b = thread.block->index, t = thread.index;
  char place[128];
  std::snprintf(place, sizeof place, "block (%u,%u,%u), thread (%u,%u,%u), ", b.x, b.y, b.z, t.x, t.y, t.z);
  note_fault(kind, kernel_name(thread.block->grid->launch.kernel), place + where.text(), message);
  thread.block->grid->failed = true;
}

}  // namespace

const char* name(Kind kind) {
  switch (kind) {
    case Kind::kDivergence: return "divergence";
    case Kind::kDeadlock: return "deadlock";
    case Kind::kAbsentLane: return "absent lane";
    case Kind::kOutOfBounds: return "out of bounds";
    case Kind::kHostMemory: return "host memory";
    case Kind::kMisaligned: return "misaligned";
    case Kind::kRace: return "race";
    case Kind::kInFlight: return "in flight";
    case Kind::kProxyFence: return "proxy fence";
    case Kind::kInstruction: return "instruction";
    case Kind::kLaunch: return "launch";
  }
  return "?";
}

std::string Fault::text() const {
  return std::string(name(kind)) + ": kernel " + kernel + ", " + where + ": " + message;
}

void note_fault(Kind kind, const std::string& kernel, const std::string& where, const std::string& message) {
  faults.push_back({kind, kernel, message, where});
  if (printing) std::fprintf(stderr, "emulator: %s\n", faults.back().text().c_str());
}

void fault(Kind kind, Where where, const char* format, ...) {
  {
    va_list arguments;
    va_start(arguments, format);
    note_fault_of(self(), kind, where, format_text(format, arguments));
    va_end(arguments);
  }
  abandon_current();
  __builtin_unreachable();
}

void fault_of(Thread& thread, Kind kind, Where where, const char* format, ...) {
  {
    va_list arguments;
    va_start(arguments, format);
    note_fault_of(thread, kind, where, format_text(format, arguments));
    va_end(arguments);
  }
  abandon_current();
  __builtin_unreachable();
}

std::vector<Fault> take_faults() { return std::exchange(faults, {}); }
bool has_faults() { return !faults.empty(); }
void print_faults(bool on) { printing = on; }

}  // namespace emulator
