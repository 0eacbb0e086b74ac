// When nothing can run any more: who waits where, and what that means.
#pragma once

namespace emulator {

struct Grid;
// Notes a divergence or a deadlock, and ends the grid.
void report_stuck(Grid& grid);

}  // namespace emulator
