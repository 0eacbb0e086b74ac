#include "language.h"

// A barrier that counts: the votes meet in memory of the emulator, twice so that the next one cannot interfere.
int __syncthreads_count(int predicate, emulator::Site site) {
  const emulator::Inside inside;
  emulator::Block& block = *emulator::self().block;
  emulator::syncthreads("__syncthreads_count", site);
  block.votes += predicate != 0;
  emulator::syncthreads("__syncthreads_count", site);
  const int votes = block.votes;
  emulator::syncthreads("__syncthreads_count", site);
  if (emulator::self().linear == 0) block.votes = 0;
  return votes;
}
