// The emulated machine: a grid of blocks of threads, and the one thread that runs now.
//
// Everything runs on one thread of the operating system, so nothing here needs locks, and a seed makes the
// same schedule again. A GPU thread is a coroutine that gives way wherever the hardware could let others go
// first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async.h"
#include "clock.h"
#include "context.h"
#include "random.h"
#include "where.h"

namespace emulator {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr size_t count() const { return size_t{x} * y * z; }
};
// The n-th index of an extent, x running fastest.
constexpr Dim3 unflatten(unsigned n, Dim3 extent) {
  return {n % extent.x, n / extent.x % extent.y, n / (extent.x * extent.y)};
}

constexpr int kMaxThreads = 1024;   // of a block
constexpr int kMaxGroup = 128;      // of a collective: a warpgroup
constexpr int kNamedBarriers = 16;  // of a block; __syncthreads() is number 0

struct Thread;
struct Block;
struct Grid;
struct Collective;
struct TensorMemory;

enum class State : uint8_t {
  kReady,
  kPolling,     // looked at something that was not there yet, and looks again
  kBarrier,     // at a barrier
  kCollective,  // at an operation that several lanes do together
  kDependency,  // at griddepcontrol.wait
  kFinished,
};

struct Thread {
  Context context;
  Block* block = nullptr;
  Dim3 index;  // threadIdx
  int linear = 0, warp = 0, lane = 0;

  int inside = 0;  // the emulator, working for this thread: see Inside

  State state = State::kReady;
  const char* waits_for = "";    // the operation's name, and the line, for reports
  std::function<std::string()> detail;  // says what a polling thread finds
  bool overtaken = false;        // gave way without having got on
  const void* polled = nullptr;  // the address that it looked at last
  uint64_t looked = 0;  // the machine's progress when it last looked there in vain
  Site site;
  int barrier = 0;                         // of kBarrier
  const Collective* collective = nullptr;  // of kCollective, with
  uint64_t mask = 0;                       // the lanes that take part
  void* operand = nullptr;                 // and what this lane brings and gets
  bool leads = false;                      // woken to do it for those who are there

  Clock clock;
  std::optional<Clock> fenced;  // the clock at the last __threadfence()
  uint32_t fenced_count = 0;    // and the own count then
  uint32_t proxy_fenced = 0;    // own count at the last fence.proxy.async, plus one
  uint32_t trigger_count = 0;   // own count when it let dependent grids start
  bool triggered = false;
  bool passed_dependency = false;  // knows what the grids before its own wrote
  CopyGroups copies;               // cp.async
};

struct NamedBarrier {
  int expected = 0, arrived = 0;
  std::vector<Thread*> waiting;
  Clock clock;
  Where first;
};

struct Block {
  Grid* grid = nullptr;
  int id = 0;  // unique among all blocks of the program's run
  Dim3 index;  // blockIdx
  std::vector<Thread> threads;
  int alive = 0;
  int triggered = 0;               // threads that let dependent grids start, or ended
  bool pauses = false;             // once triggered, until the whole grid is
  char* dynamic_shared = nullptr;  // bounded exactly
  char* static_shared = nullptr;   // the block's __shared__ variables while another block runs
  NamedBarrier barriers[kNamedBarriers];
  std::map<uintptr_t, MBarrier> mbarriers;
  std::vector<Warpgroup> warpgroups;
  std::vector<std::shared_ptr<AsyncOperation>> in_flight;
  int votes = 0;             // of __syncthreads_count()
  uint32_t agent_count = 0;  // the clock of the asynchronous engines: the entry behind the threads'
  std::shared_ptr<TensorMemory> tensor_memory;  // of sm_100, where it was asked for
  std::function<void()> last_check;             // by the last thread, before it leaves
  Block(Grid& grid, unsigned linear);
  ~Block();
};

// What a launch says.
struct Launch {
  const void* kernel = nullptr;  // its code, from which reports get its name
  Dim3 grid, block;
  size_t dynamic_shared = 0;
  size_t shared_limit = 0;  // of it, unless more was asked for
  int warp_size = 32;
  bool programmatic = false;  // may begin before the kernel before it has ended
  void (*entry)(void* parameters) = nullptr;
  std::shared_ptr<void> parameters;  // their values when the launch was written down
  size_t parameter_bytes = 0;
};

struct Grid {
  explicit Grid(Launch launch);
  Launch launch;
  int id = 0;           // ascending in the order of launching
  int first_block = 0;  // the id of its first block
  size_t next = 0;      // blocks before this one were started
  size_t resident_limit = 1;
  std::vector<std::unique_ptr<Block>> blocks;         // resident ones
  std::vector<std::vector<uint32_t>> trigger_counts;  // of each block that was started, one per thread
  size_t finished = 0, triggered = 0;
  bool dependency_met = true;  // griddepcontrol.wait returns
  bool failed = false;
  bool complete() const { return finished == launch.grid.count(); }
};

// How a seed schedules. Drawn once for each grid: extremes find more than averages do.
struct Policy {
  double stay = 1;     // that a warp runs on rather than another
  double land = 0;     // that an asynchronous operation completes at a switch
  double preempt = 0;  // that a memory access lets others go first
  int lane_order = 0;  // 0: ascending, 1: descending, 2: rotated, 3: one lane at a time
};

struct Machine {
  Random random;
  Policy policy;
  Context scheduler;
  StackPool stacks;
  Thread* current = nullptr;
  Block* static_owner = nullptr;  // whose __shared__ variables are in place
  uint64_t accesses = 0;          // to memory that others can see, ever
  uint64_t steps = 0;             // of threads, ever; and
  uint64_t progress = 0;          // those that were not just another look
  bool changed_nothing = false;   // an atomic operation left its place as it was
};
extern Machine machine;

// Runs blocks of the grid until ...
enum class Goal {
  kFinished,   // all have ended;
  kTriggered,  // all have let dependent grids start, or have ended;
  kPrologue,   // all that were started wait at griddepcontrol.wait, or have ended.
};
void run(Grid& grid, Goal goal);

// --- For what stands for an instruction, on the current thread:

Thread& self();

// At the top of every function that a kernel calls. What follows is the emulator's own work: its accesses are
// no business of the detector. The emulator is compiled without access hooks, but an inline function of the
// standard library that a kernel's file uses as well is there twice, and the linker keeps one copy, perhaps
// the one with hooks.
class Inside {
 public:
  Inside() { ++self().inside; }
  ~Inside() { --self().inside; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
};

void give_way(State state, const char* name, Site site);  // back when the scheduler says so
void be_overtaken(const char* name, Site site);           // others may go first; no sign of progress
void syncthreads(const char* name, Site site);
void named_barrier(int id, int threads, bool wait, const char* name, Site site);
void thread_fence();
void trigger_dependents();
void abandon_current();  // after a fault: never returns
// Before looking at what another thread may change: if it is what this one looked at last, the other one may
// go.
void poll(const void* address, const char* name, Site site);
void dependency_wait(Site site);  // griddepcontrol.wait

// --- Shared memory

void find_static_shared();  // before a grid runs
// The object's thread_local variables are the host's own: kernels have none. Metal's are told where their memory is.
void leave_thread_locals_alone();
size_t static_shared_bytes();
char* static_shared_begin();
void place_static_shared(Block& block);
// The 32-bit address in the shared window, as descriptors hold it; a fault where `pointer` is not in it.
uint32_t shared_address(const void* pointer, size_t bytes, const char* name, Site site);
char* shared_pointer(Block& block, uint32_t address, size_t bytes, const char* name, Site site);

}  // namespace emulator
