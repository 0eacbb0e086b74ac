// Whose turn it is to work on an engine.
#pragma once

#include <chrono>
#include <stdexcept>

#include "engine.h"

namespace gptoss {

// One thread at a time works on the engine; the others wait here, are served in the order in which they came, and may
// be interrupted while they wait.
class Engine::Turn {
 public:
  explicit Turn(Engine& engine, const InterruptPoll& poll = nullptr) : engine_(engine) {
    const auto mine = [this] { return place_ == engine_.turns_.begin(); };
    std::unique_lock lock(engine.mutex_);
    if (!engine.turns_.empty() && engine.turns_.front() == std::this_thread::get_id())
      throw std::logic_error("the engine was called from inside one of its own steps");
    place_ = engine.turns_.insert(engine.turns_.end(), std::this_thread::get_id());
    while (!engine.turn_ended_.wait_for(lock, std::chrono::milliseconds(50), mine)) {
      lock.unlock();
      try {
        if (poll && poll()) throw Interrupted();
      } catch (...) {
        leave();
        throw;
      }
      lock.lock();
    }
  }
  ~Turn() { leave(); }

 private:
  void leave() {
    {
      std::lock_guard lock(engine_.mutex_);
      engine_.turns_.erase(place_);
    }
    engine_.turn_ended_.notify_all();
  }
  Engine& engine_;
  std::list<std::thread::id>::iterator place_;
};

}  // namespace gptoss
