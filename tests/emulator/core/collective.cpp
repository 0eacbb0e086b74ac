#include "collective.h"

#include "fault.h"

namespace emulator {
namespace {

bool same_line(const Site& a, const Site& b) { return a.file_name() == b.file_name() && a.line() == b.line(); }

int group_size(const Collective& collective, const Block& block) {
  return collective.scope == Scope::kWarpgroup ? kMaxGroup : block.grid->launch.warp_size;
}

// Whether `other` waits for the same operation as `self`, so that they can do it together.
bool together(const Thread& self, const Thread& other) {
  if (other.state != State::kCollective || other.collective != self.collective) return false;
  if (self.collective->scope == Scope::kMask) return other.mask == self.mask;
  return same_line(other.site, self.site) && other.site.column() == self.site.column();
}

// Those who are there; `complete` says whether nobody is missing.
Participants gather(Thread& self, bool& complete) {
  const Collective& collective = *self.collective;
  Block& block = *self.block;
  const int size = group_size(collective, block);
  Participants group{&block, self.linear / size * size, size};
  complete = true;
  for (int i = 0; i < size; ++i) {
    const size_t linear = group.first + i;
    if (linear >= block.threads.size()) {
      complete = complete && (collective.scope == Scope::kMask || collective.scope == Scope::kActive);
      continue;
    }
    Thread& other = block.threads[linear];
    if (collective.scope == Scope::kMask && !(self.mask >> i & 1)) continue;
    if (together(self, other)) {
      group.thread[i] = &other;
    } else if (collective.scope == Scope::kMask || collective.scope == Scope::kActive) {
      complete = complete && other.state == State::kFinished;
    } else {
      complete = false;  // lanes that have left are missed as well
    }
  }
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
  bool complete = false;
  Participants group = gather(thread, complete);
  if (!complete) {
    give_way(State::kCollective, collective.name, site);
    if (!thread.leads) return;  // somebody did it for us
    thread.leads = false;
    thread.state = State::kCollective;
    group = gather(thread, complete);
  }
  perform(collective, group);
}

bool wake_a_leader(Block& block) {
  for (Thread& thread : block.threads) {
    if (thread.state != State::kCollective) continue;
    bool complete = false;
    gather(thread, complete);
    if (!complete && thread.collective->scope != Scope::kActive) continue;
    thread.leads = true;
    thread.state = State::kReady;
    return true;
  }
  return false;
}

}  // namespace emulator
