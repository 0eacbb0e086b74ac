#include "overlap.h"

#include <deque>
#include <memory>

#include "../core/access.h"
#include "../core/device_memory.h"

namespace emulator {
namespace {

// Runs what a dependent grid does before griddepcontrol.wait. It may see the stores of the grids that have
// not ended, or none of them: then it runs on the memory as it was before them, and what it stores itself is
// added to what is there now.
void run_prologue(Grid& grid, const Snapshot& before) {
  if (machine.random.chance(0.5)) {
    run(grid, Goal::kPrologue);
    return;
  }
  const Snapshot now = take_snapshot();
  put_back(before);
  run(grid, Goal::kPrologue);
  const Snapshot after = take_snapshot();
  put_back(now);
  apply_stores(before, after);
}

// Whether all threads of the grid may be alive at the same time, as they are between their triggers and their ends.
// A larger one is as if it triggered at its end, which is allowed to every grid.
bool may_overlap(const Launch& launch) {
  constexpr size_t kMostThreads = 8192;
  return static_cast<size_t>(launch.grid.count()) * launch.block.count() <= kMostThreads;
}

bool has_triggered(const Grid& grid) { return grid.triggered == grid.launch.grid.count(); }

}  // namespace

bool run_launches(const std::vector<Launch>& launches) {
  const DeviceOpen open;
  const bool overlapping = launches.size() > 1;
  std::vector<std::unique_ptr<Grid>> grids;
  std::deque<Grid*> running;
  const auto begin = [&] { return grids.emplace_back(std::make_unique<Grid>(launches[grids.size()])).get(); };
  const auto failed = [&] {
    for (const auto& grid : grids)
      if (grid->failed) return true;
    return false;
  };
  while ((grids.size() < launches.size() || !running.empty()) && !failed()) {
    if (running.empty()) running.push_back(begin());
    Grid& first = *running.front();
    first.dependency_met = true;
    if (overlapping && may_overlap(first.launch)) {
      const Snapshot before = take_snapshot();
      run(first, Goal::kTriggered);
      while (!failed() && grids.size() < launches.size() && may_overlap(launches[grids.size()]) &&
             has_triggered(*running.back())) {
        running.push_back(begin());
        run_prologue(*running.back(), before);
      }
    }
    if (!failed()) run(first, Goal::kFinished);
    if (!failed()) first.blocks.clear();  // a step is a long chain: their stacks are wanted again
    running.pop_front();
  }
  const bool good = !failed();
  for (const auto& grid : grids) grid->blocks.clear();
  forget_accesses();
  return good;
}

}  // namespace emulator
