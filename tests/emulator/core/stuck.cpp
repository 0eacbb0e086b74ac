#include "stuck.h"

#include <map>
#include <string>
#include <vector>

#include "collective.h"
#include "fault.h"
#include "machine.h"

namespace emulator {
namespace {

// "0-31, 40": ascending numbers with runs as ranges.
std::string ranges(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    if (!text.empty()) text += ", ";
    text += std::to_string(numbers[i]);
    if (j > i) text.append("-").append(std::to_string(numbers[j]));
    i = j + 1;
  }
  return text;
}

std::string where_it_stands(const Thread& thread) {
  if (thread.state == State::kFinished) return "left the kernel";
  std::string text =
      std::string(thread.state == State::kPolling ? "look again at " : "wait at ") + thread.waits_for;
  if (thread.state == State::kCollective && thread.collective->scope == Scope::kMask) {
    char mask[32];
    std::snprintf(mask, sizeof mask, " with mask 0x%llx", static_cast<unsigned long long>(thread.mask));
    text += mask;
  }
  return text + " (" + Where::of(thread.site).text() + ")" +
         (thread.detail ? ": " + thread.detail() : "");
}

// Somebody waits where all the lanes of his warp, or the whole block, would have to come, and others are
// elsewhere.
bool is_divergence(const Block& block, const Thread*& culprit) {
  for (const Thread& thread : block.threads) {
    const bool aligned = thread.state == State::kCollective || thread.state == State::kBarrier;
    if (!aligned) continue;
    const bool left = block.alive < static_cast<int>(block.threads.size());
    if (thread.state == State::kBarrier && left) {
      culprit = &thread;
      return true;
    }
    for (const Thread& other : block.threads) {
      if (other.warp != thread.warp) continue;
      if (thread.state == State::kCollective && thread.collective->scope == Scope::kMask &&
          !(thread.mask >> other.lane & 1))
        continue;
      const bool elsewhere = other.state != thread.state || other.site.line() != thread.site.line();
      if (elsewhere) {
        culprit = &thread;
        return true;
      }
    }
  }
  return false;
}

}  // namespace

void report_stuck(Grid& grid) {
  const Block* stuck = nullptr;
  for (const auto& block : grid.blocks)
    if (stuck == nullptr && block->alive > 0) stuck = block.get();
  const Thread* culprit = nullptr;
  const bool divergence = is_divergence(*stuck, culprit);
  if (culprit == nullptr)
    for (const Thread& thread : stuck->threads)
      if (culprit == nullptr && thread.state != State::kFinished) culprit = &thread;

  std::map<std::string, std::vector<int>> places;
  for (const Thread& thread : stuck->threads) places[where_it_stands(thread)].push_back(thread.linear);
  std::string message = "nothing can run any more:";
  for (const auto& [place, threads] : places) message += " threads " + ranges(threads) + " " + place + ";";
  message.pop_back();

  char place[96];
  const Dim3 b = stuck->index, t = culprit->index;
  std::snprintf(place, sizeof place, "block (%u,%u,%u), thread (%u,%u,%u), ", b.x, b.y, b.z, t.x, t.y, t.z);
  note_fault(divergence ? Kind::kDivergence : Kind::kDeadlock, kernel_name(grid.launch.kernel),
             place + Where::of(culprit->site).text(), message);
  grid.failed = true;
}

}  // namespace emulator
