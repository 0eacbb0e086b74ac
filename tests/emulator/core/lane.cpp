#include "lane.h"

#include <algorithm>

#include "access.h"
#include "collective.h"
#include "fault.h"

namespace emulator {
namespace {

// --- Shuffles

struct ShuffleOperand {
  uint64_t value;
  int source;  // lane; -1: its own value, because the source would lie outside the segment
  const char* name;
  Site site;
};

void apply_shuffle(Participants& group) {
  uint64_t results[kMaxGroup];
  for (int i = 0; i < group.size; ++i) {
    if (group.thread[i] == nullptr) continue;
    const ShuffleOperand& mine = group.operand<ShuffleOperand>(i);
    const int source = mine.source < 0 ? i : mine.source;
    if (group.thread[source] == nullptr)
      fault_of(*group.thread[i], Kind::kAbsentLane, Where::of(mine.site),
               "%s: lane %d reads lane %d, which takes no part", mine.name, i, source);
    results[i] = group.operand<ShuffleOperand>(source).value;
  }
  for (int i = 0; i < group.size; ++i)
    if (group.thread[i] != nullptr) group.operand<ShuffleOperand>(i).value = results[i];
}

int source_lane(Shuffle how, int lane, int distance, int width) {
  const int base = lane & ~(width - 1), place = lane - base;
  switch (how) {
    case Shuffle::kIndex: return base + (distance & (width - 1));
    case Shuffle::kUp: return place - distance < 0 ? -1 : lane - distance;
    case Shuffle::kDown: return place + distance >= width ? -1 : lane + distance;
    case Shuffle::kXor: return (lane ^ distance) >= base + width ? -1 : lane ^ distance;
  }
  return -1;
}

// --- Votes, matches, reductions

struct VoteOperand {
  bool vote;
  uint64_t result;
};
void apply_ballot(Participants& group) {
  uint64_t votes = 0;
  for (int i = 0; i < group.size; ++i)
    if (group.thread[i] != nullptr) votes |= uint64_t{group.operand<VoteOperand>(i).vote} << i;
  for (int i = 0; i < group.size; ++i)
    if (group.thread[i] != nullptr) group.operand<VoteOperand>(i).result = votes;
}

struct MatchOperand {
  Match how;
  uint64_t value, result;
};
void apply_match(Participants& group) {
  uint64_t results[kMaxGroup] = {}, everybody = 0;
  for (int i = 0; i < group.size; ++i) {
    if (group.thread[i] == nullptr) continue;
    everybody |= uint64_t{1} << i;
    for (int j = 0; j < group.size; ++j)
      if (group.thread[j] != nullptr &&
          group.operand<MatchOperand>(i).value == group.operand<MatchOperand>(j).value)
        results[i] |= uint64_t{1} << j;
  }
  for (int i = 0; i < group.size; ++i) {
    if (group.thread[i] == nullptr) continue;
    MatchOperand& mine = group.operand<MatchOperand>(i);
    mine.result = mine.how == Match::kAll && results[i] != everybody ? 0 : results[i];
  }
}

struct ReduceOperand {
  Reduce how;
  bool is_signed;
  uint64_t value;
};
uint64_t combine(const ReduceOperand& operand, uint64_t a, uint64_t b) {
  const auto sa = static_cast<int32_t>(a), sb = static_cast<int32_t>(b);
  const auto ua = static_cast<uint32_t>(a), ub = static_cast<uint32_t>(b);
  switch (operand.how) {
    case Reduce::kAdd: return ua + ub;
    case Reduce::kMin: return operand.is_signed ? static_cast<uint32_t>(std::min(sa, sb)) : std::min(ua, ub);
    case Reduce::kMax: return operand.is_signed ? static_cast<uint32_t>(std::max(sa, sb)) : std::max(ua, ub);
    case Reduce::kAnd: return ua & ub;
    case Reduce::kOr: return ua | ub;
    case Reduce::kXor: return ua ^ ub;
  }
  return 0;
}
void apply_reduce(Participants& group) {
  bool first = true;
  uint64_t result = 0;
  for (int i = 0; i < group.size; ++i) {
    if (group.thread[i] == nullptr) continue;
    const ReduceOperand& mine = group.operand<ReduceOperand>(i);
    result = first ? mine.value : combine(mine, result, mine.value);
    first = false;
  }
  for (int i = 0; i < group.size; ++i)
    if (group.thread[i] != nullptr) group.operand<ReduceOperand>(i).value = result;
}

// --- __syncwarp: the only one of these that orders memory.

void apply_warp_barrier(Participants& group) {
  Clock all;
  for (int i = 0; i < group.size; ++i)
    if (group.thread[i] != nullptr) all.join(group.thread[i]->clock);
  for (int i = 0; i < group.size; ++i) {
    if (group.thread[i] == nullptr) continue;
    group.thread[i]->clock.join(all);
    ++group.thread[i]->clock.at(group.thread[i]->linear);
  }
}

template <class T>
uint64_t updated(Atomic how, uint64_t old_bits, uint64_t value_bits, uint64_t compare) {
  T old_value{}, value{};
  std::memcpy(&old_value, &old_bits, sizeof(T));
  std::memcpy(&value, &value_bits, sizeof(T));
  T result = old_value;
  switch (how) {
    case Atomic::kAdd: result = static_cast<T>(old_value + value); break;
    case Atomic::kMin: result = std::min(old_value, value); break;
    case Atomic::kMax: result = std::max(old_value, value); break;
    case Atomic::kAnd: return old_bits & value_bits;
    case Atomic::kOr: return old_bits | value_bits;
    case Atomic::kXor: return old_bits ^ value_bits;
    case Atomic::kExchange:
    case Atomic::kStore: return value_bits;
    case Atomic::kCompareExchange: return old_bits == compare ? value_bits : old_bits;
    case Atomic::kLoad: return old_bits;
  }
  uint64_t bits = 0;
  std::memcpy(&bits, &result, sizeof(T));
  return bits;
}

uint64_t updated(Atomic how, Number number, size_t bytes, uint64_t old_bits, uint64_t value,
                 uint64_t compare) {
  if (bytes == 8) {
    if (number == Number::kFloat) return updated<double>(how, old_bits, value, compare);
    if (number == Number::kSigned) return updated<int64_t>(how, old_bits, value, compare);
    return updated<uint64_t>(how, old_bits, value, compare);
  }
  if (number == Number::kFloat) return updated<float>(how, old_bits, value, compare);
  if (number == Number::kSigned) return updated<int32_t>(how, old_bits, value, compare);
  return updated<uint32_t>(how, old_bits, value, compare);
}

Collective named(const char* name, bool masked, void (*apply)(Participants&)) {
  return {name, masked ? Scope::kMask : Scope::kActive, apply};
}

}  // namespace

void* dynamic_shared() { return self().block->dynamic_shared; }

uint64_t shuffle(Shuffle how, bool masked, uint64_t mask, uint64_t value, int distance, int width,
                 const char* name, Site site) {
  const Inside inside;
  // One operation for each way: lanes that shuffle in different ways do not meet.
  static const Collective kMasked[] = {
      named("shuffle", true, apply_shuffle), named("shuffle up", true, apply_shuffle),
      named("shuffle down", true, apply_shuffle), named("shuffle xor", true, apply_shuffle)};
  static const Collective kActive = named("shuffle", false, apply_shuffle);
  if (width <= 0 || width > place.warp_size || (width & (width - 1)) != 0)
    fault(Kind::kInstruction, Where::of(site), "%s: a width of %d in a warp of %d", name, width,
          place.warp_size);
  ShuffleOperand operand{value, source_lane(how, self().lane, distance, width), name, site};
  collect(masked ? kMasked[static_cast<int>(how)] : kActive, mask, &operand, site);
  return operand.value;
}

uint64_t ballot(bool masked, uint64_t mask, bool vote, const char*, Site site) {
  const Inside inside;
  static const Collective kMasked = named("vote", true, apply_ballot);
  static const Collective kActive = named("vote", false, apply_ballot);
  VoteOperand operand{vote, 0};
  collect(masked ? kMasked : kActive, mask, &operand, site);
  return operand.result;
}

uint64_t match(Match how, uint64_t mask, uint64_t value, const char*, Site site) {
  const Inside inside;
  static const Collective kMatch = named("match", true, apply_match);
  MatchOperand operand{how, value, 0};
  collect(kMatch, mask, &operand, site);
  return operand.result;
}

uint64_t reduce(Reduce how, bool is_signed, uint64_t mask, uint64_t value, const char*, Site site) {
  const Inside inside;
  static const Collective kReduce = named("reduction", true, apply_reduce);
  ReduceOperand operand{how, is_signed, value};
  collect(kReduce, mask, &operand, site);
  return operand.value;
}

void warp_barrier(bool masked, uint64_t mask, const char*, Site site) {
  const Inside inside;
  static const Collective kMasked = named("__syncwarp", true, apply_warp_barrier);
  static const Collective kActive = named("wave barrier", false, apply_warp_barrier);
  collect(masked ? kMasked : kActive, mask, nullptr, site);
}

uint64_t atomic(Atomic how, Number number, void* address, size_t bytes, uint64_t value, uint64_t compare,
                const char* name, Site site) {
  const Inside inside;
  if (how == Atomic::kLoad)
    poll(address, name, site);
  else if (machine.random.chance(0.25))
    be_overtaken(name, site);
  const Access access = how == Atomic::kLoad ? Access::kAtomicRead : Access::kAtomicWrite;
  check_access(address, bytes, access, Where::of(site));
  uint64_t old_bits = 0;
  std::memcpy(&old_bits, address, bytes);
  const uint64_t bits = updated(how, number, bytes, old_bits, value, compare);
  std::memcpy(address, &bits, bytes);
  atomic_order(address, how != Atomic::kLoad);
  // A lock that is still taken, a flag that is not yet set: let the others run.
  if (how != Atomic::kLoad && bits == old_bits) {
    machine.changed_nothing = true;
    poll(address, name, site);
  }
  return old_bits;
}

}  // namespace emulator
