// A small pool: bounded spin, then sleep. Results never depend on it: tasks write disjoint memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace gptoss::cpu {

// Cores this process may really use: its affinity mask, cut by the cgroup's CPU quota. At least 1.
int usable_cores();

class Pool {
 public:
  explicit Pool(int threads);  // the caller of run() is one of them
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, worker) for every task in [0, tasks), worker in [0, threads()); returns when all are done.
  // Tasks are taken in ascending order, by whoever is free. The body must not throw, and not call run().
  // One thread at a time may be inside run().
  template <class Body>
  void run(int tasks, const Body& body) {
    run_erased(tasks, [](const void* b, int task, int worker) { (*static_cast<const Body*>(b))(task, worker); }, &body);
  }

  // From here on `poll` is asked about every 50 ms by the thread inside run(); once it says true, stopped()
  // is true and tasks not yet begun are dropped. `poll` must not throw.
  void watch(const std::function<bool()>* poll);
  bool stopped() const { return stop_.load(std::memory_order_relaxed); }

 private:
  using Call = void (*)(const void* body, int task, int worker);
  void run_erased(int tasks, Call call, const void* body);
  bool run_one(int worker);
  void work(int worker);
  void ask();

  struct Job {
    Call call = nullptr;
    const void* body = nullptr;
  };
  Job job_;
  // What a worker needs to claim a task, in one word: tasks in the high half, the next one in the low half. A
  // successful claim keeps the job alive, because run() waits for it.
  alignas(64) std::atomic<uint64_t> claim_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<uint32_t> signal_{0};  // counts jobs; sleepers wait for it to change
  std::atomic<bool> quit_{false};
  std::atomic<bool> stop_{false};
  const std::function<bool()>* poll_ = nullptr;
  int64_t last_poll_ns_ = 0;
  int process_;  // after fork() there are no workers to stop
  std::vector<std::thread> workers_;
};

}  // namespace gptoss::cpu
