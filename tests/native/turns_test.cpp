// Turns on the engine: one thread at a time, in the order in which they came.
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "growth_devices.h"
#include "tiny_model.h"

namespace {

using namespace gptoss;
using test::WatchedDevice;

thread_local int caller = -1;

// A device that stops in the first step until it is told to go on, and notes whose step is under way.
struct HeldEngine {
  explicit HeldEngine(const test::TinyModel& model) {
    auto device = std::make_unique<WatchedDevice>(test::cpu_device());
    device->before = [this](const std::string&) {
      if (served.empty()) reached.set_value();
      if (served.empty() || served.back() != caller) served.push_back(caller);
      opened.wait();
    };
    engine = test::open_engine(model, {.max_context = 64, .max_sequences = 1}, std::move(device));
  }
  void step(const std::shared_ptr<Session>& session, const InterruptPoll& poll = nullptr) {
    engine->step({{.session = session, .tokens = {1}, .rows = {}, .sampling = {}}}, poll);
  }

  std::vector<int> served;  // of the thread whose turn it is
  std::promise<void> reached, open;
  std::shared_future<void> opened = open.get_future().share();
  std::unique_ptr<Engine> engine;
};

// Each caller comes when the one before is known to wait: it was asked about an interruption. The third one gives up.
void who_came_first_is_served_first() {
  const test::TinyModel model(16);
  HeldEngine held(model);
  std::vector<std::shared_ptr<Session>> sessions;
  for (int i = 0; i < 6; ++i) sessions.push_back(held.engine->session());
  std::vector<std::thread> threads;
  threads.emplace_back([&] { held.step(sessions[5]); });
  held.reached.get_future().wait();
  std::promise<void> waits[5];
  int gave_up = 0;
  for (int i = 0; i < 5; ++i) {
    threads.emplace_back([&, i, asked = false]() mutable {
      caller = i;
      try {
        held.step(sessions[i], [&] {
          if (!std::exchange(asked, true)) waits[i].set_value();
          return i == 2;
        });
      } catch (const Interrupted&) {
        ++gave_up;
      }
    });
    waits[i].get_future().wait();
  }
  held.open.set_value();
  for (auto& thread : threads) thread.join();
  CHECK(gave_up == 1 && (held.served == std::vector{-1, 0, 1, 3, 4}), "%zu were served, and %d gave up",
        held.served.size(), gave_up);
}

}  // namespace

int main() {
  who_came_first_is_served_first();
  return test::finish("turns_test");
}
