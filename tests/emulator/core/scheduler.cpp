// Which thread runs next: chance decides, by a policy that the seed draws for each grid.
#include <cstdio>
#include <utility>

#include "collective.h"
#include "fault.h"
#include "lane.h"
#include "machine.h"
#include "stuck.h"
#include "watchdog.h"

namespace emulator {

Machine machine;
Place place;

namespace {

int next_grid = 0;
int next_block = 0;

Policy draw_policy(Random& random) {
  constexpr double kStay[] = {0.5, 0.9, 1, 1}, kLand[] = {0, 0, 0.05, 1}, kPreempt[] = {0, 0, 0.002, 0.02};
  return {kStay[random.below(4)], kLand[random.below(4)], kPreempt[random.below(4)],
          static_cast<int>(random.below(4))};
}

bool runnable(const Thread& thread) {
  return thread.state == State::kReady || thread.state == State::kPolling ||
         (thread.state == State::kDependency && thread.block->grid->dependency_met);
}

void count_as_triggered(Thread& thread) {
  Block& block = *thread.block;
  Grid& grid = *block.grid;
  grid.trigger_counts[block.id - grid.first_block][thread.linear] = thread.trigger_count;
  if (++block.triggered == static_cast<int>(block.threads.size())) ++grid.triggered;
}

// Whoever leaves last: an mbarrier whose phase has begun and not ended was made for another number of arrivals.
void expect_whole_phases(const Block& block) {
  for (const auto& [address, barrier] : block.mbarriers)
    if (barrier.pending != 0 && barrier.pending != barrier.expected)
      fault(Kind::kInstruction, barrier.made,
            "the kernel ends in the middle of a phase of this mbarrier: %d of %d arrivals are missing",
            barrier.pending, barrier.expected);
}

// What a thread's coroutine executes.
void thread_main() {
  Thread& thread = self();
  const Launch& launch = thread.block->grid->launch;
  launch.entry(launch.parameters.get());
  const Inside inside;
  if (thread.block->alive == 1) {
    expect_whole_phases(*thread.block);
    if (thread.block->last_check) thread.block->last_check();
  }
  thread.state = State::kFinished;
  if (!thread.triggered) {
    thread.trigger_count = UINT32_MAX;
    count_as_triggered(thread);
  }
  if (--thread.block->alive == 0) ++thread.block->grid->finished;
  switch_context(thread.context, machine.scheduler, true);
}

void start_block(Grid& grid) {
  const auto linear = static_cast<unsigned>(grid.next++);
  auto block = std::make_unique<Block>(grid, linear);
  const size_t count = grid.launch.block.count();
  block->threads.resize(count);
  block->alive = static_cast<int>(count);
  block->pauses = machine.random.chance(0.5);
  for (size_t i = 0; i < count; ++i) {
    Thread& thread = block->threads[i];
    thread.block = block.get();
    thread.index = unflatten(static_cast<unsigned>(i), grid.launch.block);
    thread.linear = static_cast<int>(i);
    thread.warp = thread.linear / grid.launch.warp_size;
    thread.lane = thread.linear % grid.launch.warp_size;
    thread.clock = Clock(block->id, count + 1);  // one more for the asynchronous engines
    thread.clock.at(i) = 1;
    // Stacks that begin at equal distances would meet in the same cache sets.
    const size_t colour = i * 37 % 64 * 64;
    prepare(thread.context, machine.stacks.take(), StackPool::kUsable - StackPool::kLink - colour,
            thread_main);
  }
  grid.trigger_counts.emplace_back(count, 0);
  grid.blocks.push_back(std::move(block));
}

void resume(Thread& thread) {
  const Block& block = *thread.block;
  const Launch& launch = block.grid->launch;
  place_static_shared(*thread.block);
  place = {thread.index, block.index, launch.block, launch.grid, launch.warp_size};
  machine.current = &thread;
  thread.state = State::kReady;
  ++machine.steps;
  switch_context(machine.scheduler, thread.context);
  machine.current = nullptr;
  if (thread.state == State::kPolling)
    thread.looked = machine.progress;
  else if (!thread.overtaken)
    ++machine.progress;
  thread.overtaken = false;
}

// Runs lanes of one warp, each until it waits. Returns whether any could run.
bool run_warp(Block& block, int warp) {
  Machine& m = machine;
  const int size = block.grid->launch.warp_size, first = warp * size;
  const int lanes = std::min(size, static_cast<int>(block.threads.size()) - first);
  bool ran = false, again = true;
  while (again && !block.grid->failed) {
    again = false;
    const int rotation = m.policy.lane_order >= 2 ? static_cast<int>(m.random.below(lanes)) : 0;
    for (int i = 0; i < lanes && !block.grid->failed; ++i) {
      const int lane = m.policy.lane_order == 1 ? lanes - 1 - i : (i + rotation) % lanes;
      Thread& thread = block.threads[first + lane];
      if (!runnable(thread)) continue;
      resume(thread);
      ran = true;
      again = again || thread.state == State::kReady;
      if (m.policy.lane_order == 3) break;
    }
    again = again && m.random.chance(m.policy.stay);
  }
  return ran;
}

bool may_run(const Block& block, Goal goal) {
  const bool triggered = block.triggered == static_cast<int>(block.threads.size());
  return block.alive > 0 && !(goal == Goal::kTriggered && block.pauses && triggered);
}

// Lets one warp run. Returns false when nobody can.
bool turn(Grid& grid, Goal goal) {
  const auto blocks = static_cast<uint32_t>(grid.blocks.size());
  const uint32_t first_block = machine.random.below(blocks);
  for (uint32_t i = 0; i < blocks; ++i) {
    Block& block = *grid.blocks[(first_block + i) % blocks];
    if (!may_run(block, goal)) continue;
    land_some(block, machine.policy.land);
    const auto warps = static_cast<uint32_t>((block.threads.size() - 1) / grid.launch.warp_size + 1);
    const uint32_t first_warp = machine.random.below(warps);
    for (uint32_t w = 0; w < warps; ++w)
      if (run_warp(block, static_cast<int>((first_warp + w) % warps))) return true;
  }
  return false;
}

void retire_finished(Grid& grid) {
  std::erase_if(grid.blocks, [](const std::unique_ptr<Block>& block) { return block->alive == 0; });
}

// Those that are running, those that have to start, and where that is none, one more.
bool admit(Grid& grid, size_t at_least) {
  retire_finished(grid);
  bool any = false;
  while (grid.next < grid.launch.grid.count() && grid.blocks.size() < at_least) {
    start_block(grid);
    any = true;
  }
  return any;
}

// Whether all who can run have looked for what is not there since something last happened.
bool all_look_in_vain(const Grid& grid) {
  for (const auto& block : grid.blocks)
    for (const Thread& thread : block->threads)
      if (runnable(thread) && (thread.state != State::kPolling || thread.looked != machine.progress)) return false;
  return true;
}

bool reached(const Grid& grid, Goal goal) {
  if (grid.complete()) return true;
  return goal == Goal::kTriggered && grid.triggered == grid.launch.grid.count();
}

}  // namespace

Grid::Grid(Launch what) : launch(std::move(what)), id(next_grid++), first_block(next_block) {
  const size_t count = launch.grid.count();
  next_block += static_cast<int>(count);
  resident_limit = 1 + machine.random.below(4);
  dependency_met = !launch.programmatic;
}

Thread& self() { return *machine.current; }

void give_way(State state, const char* name, Site site) {
  Thread& thread = self();
  thread.state = state;
  thread.waits_for = name;
  thread.site = site;
  switch_context(thread.context, machine.scheduler);
}

void be_overtaken(const char* name, Site site) {
  self().overtaken = true;
  give_way(State::kReady, name, site);
}

void abandon_current() {
  Thread& thread = self();
  switch_context(thread.context, machine.scheduler, true);
}

void poll(const void* address, const char* name, Site site) {
  Thread& thread = self();
  const bool again = thread.polled == address;
  thread.polled = address;
  give_way(again ? State::kPolling : State::kReady, name, site);
}

void dependency_wait(Site site) {
  const Inside inside;
  Thread& thread = self();
  if (!thread.block->grid->dependency_met) give_way(State::kDependency, "griddepcontrol.wait", site);
  thread.passed_dependency = true;
}

void trigger_dependents() {
  const Inside inside;
  Thread& thread = self();
  if (thread.triggered) return;
  thread.triggered = true;
  thread.trigger_count = ++thread.clock.at(thread.linear) - 1;
  count_as_triggered(thread);
  give_way(State::kReady, "griddepcontrol.launch_dependents", Site::current());
}

void run(Grid& grid, Goal goal) {
  Machine& m = machine;
  if (m.scheduler.stack == nullptr) {
    m.scheduler = main_context();
    start_watchdog();
  }
  find_static_shared();
  m.policy = draw_policy(m.random);
  uint64_t progress = m.progress;
  unsigned idle = 0, fruitless = 0;
  while (!grid.failed && !reached(grid, goal)) {
    admit(grid, goal == Goal::kTriggered ? grid.launch.grid.count() : grid.resident_limit);
    const bool ran = turn(grid, goal);
    if (ran && m.progress != progress) {
      progress = m.progress;
      idle = fruitless = 0;
      continue;
    }
    ++idle;
    const bool may_find = m.changed_nothing || idle % 64 != 0 || !all_look_in_vain(grid);
    if (ran && may_find && idle < 16 * grid.blocks.size() * grid.launch.block.count()) continue;
    idle = 0;
    // Whoever can run only looks again for what is not there. What can still happen, one thing at a time:
    bool moved = false;
    for (auto& block : grid.blocks) moved = moved || (may_run(*block, goal) && wake_a_leader(*block));
    for (auto& block : grid.blocks) moved = moved || (may_run(*block, goal) && land_some(*block, 1));
    if (moved || admit(grid, grid.blocks.size() + 1)) continue;
    if (goal == Goal::kPrologue) break;
    // A loop that adds nothing to a counter looks like one that waits for it, but comes to its end.
    constexpr unsigned kPatience = 64;
    if (ran && std::exchange(m.changed_nothing, false) && ++fruitless < kPatience) continue;
    report_stuck(grid);
  }
  retire_finished(grid);
  if (grid.failed) grid.blocks.clear();
}

}  // namespace emulator
