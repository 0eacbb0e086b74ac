// Tiles in shared memory that tcgen05 reads.
#pragma once

#include <vector>

#include "../core/machine.h"
#include "shared_tile.h"

namespace emulator {

struct TileOfTcgen05 {
  SharedTile place;
  int rows, units;
};

// Table 40 of the PTX ISA, bit by bit.
SharedTile decode_tcgen05(uint64_t bits, const char* name, Site site);

template <class F>
void for_each_unit(Block& block, const TileOfTcgen05& tile, const char* name, Site site, F&& f) {
  for (int row = 0; row < tile.rows; ++row)
    for (int unit = 0; unit < tile.units; ++unit)
      f(row, unit, shared_pointer(block, unit_address(tile.place, row, unit), 16, name, site));
}

// The operation reads these tiles from now on, and until its `release`.
void read_until_done(Block& block, const std::vector<TileOfTcgen05>& tiles, AsyncOperation& operation, Site site);

}  // namespace emulator
