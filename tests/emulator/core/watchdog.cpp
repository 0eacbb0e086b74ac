#include "watchdog.h"

#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "machine.h"

namespace emulator {
namespace {

constexpr int kSeconds = 30;  // of processor time with no change of threads
uint64_t seen = 0;
int quiet = 0;

void look(int) {
  const bool moved = machine.current == nullptr || machine.steps + machine.accesses != seen;
  seen = machine.steps + machine.accesses;
  quiet = moved ? 0 : quiet + 1;
  if (quiet < kSeconds) return;
  char text[160];
  const Dim3 block = machine.current->block->index, thread = machine.current->index;
  std::snprintf(text, sizeof text, "emulator: deadlock: block (%u,%u,%u), thread (%u,%u,%u) computes for ever\n", block.x,
                block.y, block.z, thread.x, thread.y, thread.z);
  if (write(STDERR_FILENO, text, std::strlen(text)) > 0) _exit(3);
  _exit(3);
}

}  // namespace

void start_watchdog() {
  // The handler has a stack of its own: a thread's may be nearly used up.
  static char stack[64 * 1024];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_handler = look;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigaction(SIGPROF, &action, nullptr);
  const itimerval every_second{{1, 0}, {1, 0}};
  setitimer(ITIMER_PROF, &every_second, nullptr);
}

}  // namespace emulator
