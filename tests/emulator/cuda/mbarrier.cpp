// mbarrier: the state is kept beside the block; the word in shared memory only shows whether it was
// overwritten.
#include "mbarrier.h"

#include <cstring>

#include "../core/access.h"
#include "../core/fault.h"
#include "cuda_runtime.h"
#include "emulated/mbarrier.cuh"
#include "emulated/shared.cuh"

namespace emulator {
namespace {

constexpr uint64_t kWord =
    0x6d62617272696572;  // what an mbarrier's 64 bits hold here; the hardware's are opaque

void complete_phase_if_done(Block& block, MBarrier& barrier) {
  if (barrier.pending != 0 || barrier.bytes != 0) return;
  ++barrier.phase;
  barrier.pending = barrier.expected;
  barrier.completed.join(barrier.clock);
  barrier.clock = Clock(block.id, block.threads.size() + 1);
}

// Who waits for it knows what the asynchronous engines have done so far.
void tell_of_agent(const Block& block, MBarrier& barrier) {
  const size_t agent = block.threads.size();
  barrier.clock.at(agent) = std::max(barrier.clock.at(agent), block.agent_count);
}

std::string state_of(const MBarrier& barrier, uint32_t parity) {
  char text[160];
  std::snprintf(text, sizeof text,
                "waits for parity %u in phase %llu, where %d of %d arrivals and %lld bytes are missing",
                parity, static_cast<unsigned long long>(barrier.phase), barrier.pending, barrier.expected,
                static_cast<long long>(barrier.bytes));
  return text;
}

}  // namespace

MBarrier& find_mbarrier(uint64_t* address, const char* name, Site site) {
  Block& block = *self().block;
  const uint32_t key = shared_address(address, 8, name, site);
  // Races only with the initialisation: everything else about it is atomic.
  check_access(address, 8, Access::kAtomicRead, Where::of(site));
  const auto found = block.mbarriers.find(key);
  if (found == block.mbarriers.end())
    fault(Kind::kInstruction, Where::of(site), "%s: there is no initialised mbarrier at shared address 0x%x",
          name, key);
  if (*address != kWord)
    fault(Kind::kInstruction, Where::of(site),
          "%s: something has written over the mbarrier that was made at %s", name,
          found->second.made.text().c_str());
  return found->second;
}

MBarrier& find_mbarrier_of_copy(uint64_t* address, const char* name, Site site) {
  MBarrier& barrier = find_mbarrier(address, name, site);
  if (!barrier.fenced)
    fault(Kind::kProxyFence, Where::of(site), "%s: no fence.mbarrier_init came after the mbarrier.init of %s",
          name, barrier.made.text().c_str());
  return barrier;
}

void complete_bytes(Block& block, MBarrier& barrier, int64_t bytes) {
  barrier.bytes -= bytes;
  tell_of_agent(block, barrier);
  complete_phase_if_done(block, barrier);
}

void complete_arrival(Block& block, MBarrier& barrier) {
  --barrier.pending;
  tell_of_agent(block, barrier);
  complete_phase_if_done(block, barrier);
}

}  // namespace emulator

namespace gptoss::ptx {

using namespace ::emulator;

void mbarrier_init(uint64_t* address, int arrivals, Site site) {
  const Inside inside;
  Block& block = *self().block;
  const uint32_t key = ::emulator::shared_address(address, 8, "mbarrier.init", site);
  check_access(address, 8, Access::kWrite, Where::of(site));
  if (arrivals <= 0 || arrivals >= 1 << 20)
    fault(Kind::kInstruction, Where::of(site), "mbarrier.init: %d arrivals", arrivals);
  if (block.mbarriers.count(key) != 0)
    fault(Kind::kInstruction, Where::of(site), "mbarrier.init: there is one already, made at %s",
          block.mbarriers[key].made.text().c_str());
  const Clock nothing(block.id, block.threads.size() + 1);
  block.mbarriers[key] = {.expected = arrivals,
                          .pending = arrivals,
                          .maker = self().linear,
                          .clock = nothing,
                          .completed = nothing,
                          .made = Where::of(site)};
  std::memcpy(address, &kWord, sizeof kWord);
}

void fence_mbarrier_init(Site) {
  const Inside inside;
  for (auto& [address, barrier] : self().block->mbarriers)
    if (barrier.maker == self().linear) barrier.fenced = true;
}

void fence_proxy_async(Site site) {
  const Inside inside;
  Thread& thread = self();
  thread.proxy_fenced = ++thread.clock.at(thread.linear);
  fence_mbarrier_init(site);
}

void mbarrier_arrive_expect_tx(uint64_t* address, int bytes, Site site) {
  const Inside inside;
  const char* name = bytes == 0 ? "mbarrier.arrive" : "mbarrier.arrive.expect_tx";
  Thread& thread = self();
  MBarrier& barrier = find_mbarrier(address, name, site);
  if (barrier.pending == 0)
    fault(Kind::kInstruction, Where::of(site), "%s: one arrival more than the %d of a phase", name,
          barrier.expected);
  barrier.bytes += bytes;
  --barrier.pending;
  barrier.clock.join(thread.clock);
  ++thread.clock.at(thread.linear);
  complete_phase_if_done(*thread.block, barrier);
  give_way(State::kReady, name, site);
}

void mbarrier_arrive(uint64_t* address, Site site) { mbarrier_arrive_expect_tx(address, 0, site); }

bool mbarrier_try_wait_parity(uint64_t* address, uint32_t parity, Site site) {
  const Inside inside;
  Thread& thread = self();
  const auto is_complete = [&](const MBarrier& barrier) { return (barrier.phase & 1) != (parity & 1); };
  MBarrier& barrier = find_mbarrier(address, "mbarrier.try_wait", site);
  if (!is_complete(barrier)) {
    thread.detail = [&barrier, parity] { return state_of(barrier, parity); };
    poll(address, "mbarrier.try_wait", site);
    if (!is_complete(barrier)) return false;
  }
  thread.detail = nullptr;
  thread.polled = nullptr;
  thread.clock.join(barrier.completed);
  return true;
}

}  // namespace gptoss::ptx
