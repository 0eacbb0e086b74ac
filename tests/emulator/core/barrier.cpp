// Barriers of a block, and what they tell the race detector.
#include "fault.h"
#include "machine.h"

namespace emulator {
namespace {

// All who arrived know what any of them knew, and what any of them does from now on is news again.
void exchange_knowledge(Clock& clock, std::vector<Thread*>& threads) {
  for (Thread* thread : threads) {
    thread->clock.join(clock);
    ++thread->clock.at(thread->linear);
  }
}

// bar.sync is executed by a warp, not by a thread: its lanes must stand at the same one.
void expect_converged(const std::vector<Thread*>& waiting, const Block& block, const char* name) {
  std::vector<const Thread*> first(block.threads.size() / block.grid->launch.warp_size + 1, nullptr);
  for (Thread* thread : waiting) {
    const Thread*& other = first[thread->warp];
    if (other == nullptr) other = thread;
    const Site &a = other->site, &b = thread->site;
    if (a.line() != b.line() || a.column() != b.column() || a.file_name() != b.file_name())
      fault_of(*thread, Kind::kDivergence, Where::of(thread->site),
               "%s in divergent code: thread %d of the same warp stands at %s", name, other->linear,
               Where::of(other->site).text().c_str());
  }
}

void arrive(NamedBarrier& barrier, Thread& thread, int threads, int id, const char* name, Site site) {
  if (barrier.arrived == 0) {
    barrier.expected = threads;
    barrier.first = Where::of(site);
  } else if (barrier.expected != threads) {
    fault(Kind::kInstruction, Where::of(site), "%s: barrier %d is for %d threads here, and for %d at %s", name, id,
          threads, barrier.expected, barrier.first.text().c_str());
  }
  ++barrier.arrived;
  barrier.clock.join(thread.clock);
  ++thread.clock.at(thread.linear);
}

// The last one has come: everybody goes on.
void open(NamedBarrier& barrier, Block& block, const char* name) {
  expect_converged(barrier.waiting, block, name);
  exchange_knowledge(barrier.clock, barrier.waiting);
  for (Thread* thread : barrier.waiting) thread->state = State::kReady;
  barrier = {};
}

}  // namespace

void named_barrier(int id, int threads, bool wait, const char* name, Site site) {
  const Inside inside;
  Thread& thread = self();
  Block& block = *thread.block;
  if (id < 0 || id >= kNamedBarriers)
    fault(Kind::kInstruction, Where::of(site), "%s: there are barriers 0 to %d, not %d", name, kNamedBarriers - 1, id);
  if (threads <= 0 || threads % block.grid->launch.warp_size != 0)
    fault(Kind::kInstruction, Where::of(site), "%s: %d threads is not a multiple of the warp's %d", name, threads,
          block.grid->launch.warp_size);
  NamedBarrier& barrier = block.barriers[id];
  arrive(barrier, thread, threads, id, name, site);
  thread.site = site;
  thread.barrier = id;
  thread.waits_for = name;
  if (wait) {
    thread.state = State::kBarrier;
    barrier.waiting.push_back(&thread);
  }
  const bool last = barrier.arrived == barrier.expected;
  if (last) open(barrier, block, name);
  // The last to come does not always go first.
  if (wait) give_way(last ? State::kReady : State::kBarrier, name, site);
}

void syncthreads(const char* name, Site site) {
  const Inside inside;
  Thread& thread = self();
  Block& block = *thread.block;
  NamedBarrier& barrier = block.barriers[0];
  const int threads = static_cast<int>(block.threads.size());
  arrive(barrier, thread, threads, 0, name, site);
  thread.site = site;
  thread.barrier = 0;
  thread.waits_for = name;
  thread.state = State::kBarrier;
  barrier.waiting.push_back(&thread);
  const bool last = barrier.arrived == threads;
  if (last) open(barrier, block, name);
  give_way(last ? State::kReady : State::kBarrier, name, site);
}

void thread_fence() {
  const Inside inside;
  Thread& thread = self();
  thread.fenced = thread.clock;
  thread.fenced_count = thread.clock.at(thread.linear);
  ++thread.clock.at(thread.linear);
}

}  // namespace emulator
