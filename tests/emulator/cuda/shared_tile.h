// Tiles in shared memory as the descriptors of wgmma and tcgen05 say: rows along k, in units of 16 bytes.
#pragma once

#include <cstdint>

namespace emulator {

struct SharedTile {
  uint32_t start, leading, stride;  // bytes: of the first unit, between units (swizzled: between parts), between groups of rows
  uint32_t swizzle;                 // bytes of a swizzled row, in which units are one behind the other; or 0
};

// Whether the pattern of the swizzle begins with the tile's first row.
inline bool begins_with_pattern(const SharedTile& tile) {
  return tile.swizzle == 0 || (tile.start >> 7 & (tile.swizzle / 16 - 1)) == 0;
}

// Groups are of eight rows; a row that is longer than the swizzle goes on `leading` behind.
inline uint32_t unit_address(const SharedTile& tile, int row, int unit) {
  const uint32_t group = tile.start + row / 8 * tile.stride;
  if (tile.swizzle == 0) return group + unit * tile.leading + row % 8 * 16;
  const uint32_t units = tile.swizzle / 16;
  const uint32_t address = group + unit / units * tile.leading + row % 8 * tile.swizzle + unit % units * 16;
  return address ^ ((address >> 7 & (units - 1)) << 4);
}

}  // namespace emulator
