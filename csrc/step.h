// A step of several sequences on its way: room for each of them, given back unless its part is committed.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine.h"

namespace gptoss {

// One step may lie behind another: then a session has room in both. What becomes of a session's room is settled by the
// later step where both hold it, so that no page is free before the device has done with it.
class Engine::Step {
 public:
  explicit Step(std::vector<Work> w) : work(std::move(w)), dropped(work.size(), false), open_(work.size(), false) {}
  ~Step() { give_back(); }
  Step(const Step&) = delete;

  // Room for all of `work`, or none and an exception. Where the pool has none, checkpoints go first, if they may.
  void reserve(Engine& engine, bool may_evict);
  // Sequence i is part of the cache now, and what it drew is known to the step behind.
  std::vector<std::shared_ptr<const Snapshot>> commit(size_t i, int32_t drawn);
  // Sequence i is as it was.
  void leave_out(size_t i);
  // All of those left are as they were.
  void give_back();

  // Where in `work` the session is; -1.
  int find(const Session& session) const;
  // Which of the samples is that of work[i].
  int sample_of(int i) const;

  std::vector<Work> work;
  std::vector<bool> dropped;
  Batch batch;
  Ticket ticket = 0;
  std::shared_ptr<Step> after;  // until this one is collected
  std::weak_ptr<Step> next;
  bool finished = false;  // what follows is here, and the device is not needed any more
  bool over = false;      // collected, or given up
  std::vector<int32_t> drawn, top_token;
  std::vector<float> logprob, top_logprob, logits;

 private:
  void make_room(Engine& engine, const Work& work, bool may_evict);
  std::vector<bool> open_;
};

}  // namespace gptoss
