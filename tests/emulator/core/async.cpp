#include "async.h"

#include "machine.h"

namespace emulator {

void complete(AsyncOperation& operation) {
  if (operation.landed) return;
  operation.landed = true;
  operation.land();
}

void start(Block& block, AsyncPointer operation) {
  if (machine.random.chance(machine.policy.land))
    complete(*operation);
  else
    block.in_flight.push_back(std::move(operation));
}

bool land_some(Block& block, double probability) {
  std::vector<AsyncPointer>& flying = block.in_flight;
  if (flying.empty() || !machine.random.chance(probability)) return false;
  std::erase_if(flying, [](const AsyncPointer& operation) { return operation->landed; });
  if (flying.empty()) return false;
  const uint32_t which = machine.random.below(static_cast<uint32_t>(flying.size()));
  const AsyncPointer operation = flying[which];
  place_static_shared(block);  // it may be there that it writes
  flying.erase(flying.begin() + which);
  complete(*operation);
  ++machine.progress;  // who has looked in vain may find it now
  return true;
}

}  // namespace emulator
