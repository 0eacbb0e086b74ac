#include "collective.h"

#include "fault.h"

namespace emulator {
namespace {

bool same_line(const Site& a, const Site& b) {
  return a.file_name() == b.file_name() && a.line() == b.line();
}

int group_size(const Collective& collective, const Block& block) {
  return collective.scope == Scope::kWarpgroup ? kMaxGroup : block.grid->launch.warp_size;
}

// Whether `other` waits for the same operation as `self`, so that they can do it together.
bool together(const Thread& self, const Thread& other) {
  if (other.state != State::kCollective || other.collective != self.collective) return false;
  if (self.collective->scope == Scope::kMask) return other.mask == self.mask;
  return same_line(other.site, self.site) && other.site.column() == self.site.column();
}

enum class Presence { kThere, kNotMissed, kMissing };

// Lane i of the group, for the operation that `self` waits for.
Presence presence(const Thread& self, int first, int i) {
  const Scope scope = self.collective->scope;
  const std::vector<Thread>& threads = self.block->threads;
  const bool may_have_left = scope == Scope::kMask || scope == Scope::kActive;
  const size_t linear = first + i;
  if (linear >= threads.size()) return may_have_left ? Presence::kNotMissed : Presence::kMissing;
  if (scope == Scope::kMask && !(self.mask >> i & 1)) return Presence::kNotMissed;
  if (together(self, threads[linear])) return Presence::kThere;
  return may_have_left && threads[linear].state == State::kFinished ? Presence::kNotMissed : Presence::kMissing;
}

// Looks first at those who run just before and after this lane, in whatever order: mostly one of them is missing.
bool everybody_is_there(const Thread& self) {
  const int size = group_size(*self.collective, *self.block), first = self.linear / size * size;
  const int i = self.linear - first;
  const auto missing = [&](int lane) { return presence(self, first, lane % size) == Presence::kMissing; };
  if (missing(i + 1) || missing(i + size - 1)) return false;
  for (int other = i + 2; other < i + size - 1; ++other)
    if (missing(other)) return false;
  return true;
}

Participants gather(const Thread& self) {
  Block& block = *self.block;
  const int size = group_size(*self.collective, block);
  Participants group{&block, self.linear / size * size, size};
  for (int i = 0; i < size; ++i)
    if (presence(self, group.first, i) == Presence::kThere) group.thread[i] = &block.threads[group.first + i];
  return group;
}

void perform(const Collective& collective, Participants& group) {
  collective.apply(group);
  for (int i = 0; i < group.size; ++i) {
    if (group.thread[i] == nullptr) continue;
    group.thread[i]->state = State::kReady;
    group.thread[i]->collective = nullptr;
  }
}

}  // namespace

void collect(const Collective& collective, uint64_t mask, void* operand, Site site) {
  Thread& thread = self();
  if (collective.scope == Scope::kMask) {
    if (!(mask >> thread.lane & 1))
      fault(Kind::kDivergence, Where::of(site), "%s: the mask 0x%llx does not name the caller's own lane %d",
            collective.name, static_cast<unsigned long long>(mask), thread.lane);
  }
  thread.collective = &collective;
  thread.mask = mask;
  thread.operand = operand;
  thread.site = site;
  thread.waits_for = collective.name;
  thread.state = State::kCollective;
  if (!everybody_is_there(thread)) {
    give_way(State::kCollective, collective.name, site);
    if (!thread.leads) return;  // somebody did it for us
    thread.leads = false;
    thread.state = State::kCollective;
  }
  Participants group = gather(thread);
  perform(collective, group);
}

bool wake_a_leader(Block& block) {
  for (Thread& thread : block.threads) {
    if (thread.state != State::kCollective) continue;
    if (thread.collective->scope != Scope::kActive && !everybody_is_there(thread)) continue;
    thread.leads = true;
    thread.state = State::kReady;
    return true;
  }
  return false;
}

}  // namespace emulator
