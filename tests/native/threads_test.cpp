// The thread pool: also the program that is built with ThreadSanitizer. More threads than cores, on purpose.
#include "cpu/threads.h"

#include <sched.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "check.h"

namespace {

using gptoss::cpu::Pool;

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void every_task_runs_once() {
  for (int threads = 1; threads <= 8; ++threads) {
    Pool pool(threads);
    CHECK(pool.threads() == threads, "%d of %d threads", pool.threads(), threads);
    for (int tasks : {0, 1, 2, 3, 7, 8, 9, 64, 1000}) {
      std::vector<std::atomic<int>> times(tasks);
      std::atomic<int> with_bad_worker{0};
      pool.run(tasks, [&](int task, int worker) {
        ++times[task];
        if (worker < 0 || worker >= threads) ++with_bad_worker;
      });
      for (int task = 0; task < tasks; ++task)
        CHECK(times[task] == 1, "%d threads, %d tasks: task %d ran %d times", threads, tasks, task,
              times[task].load());
      CHECK(with_bad_worker == 0, "%d threads: %d tasks had an impossible worker", threads,
            with_bad_worker.load());
    }
  }
}

// Two tasks with the same worker never overlap: each worker has its own scratch memory.
void a_worker_does_one_task_at_a_time() {
  Pool pool(4);
  std::vector<int> scratch(4, -1);  // plain ints: a race is a race for the sanitizer too
  std::atomic<int> disturbed{0};
  for (int round = 0; round < 50; ++round)
    pool.run(200, [&](int task, int worker) {
      volatile int& mine = scratch[worker];
      mine = task;
      for (int i = 0; i < 50; ++i)
        if (mine != task) ++disturbed;
    });
  CHECK(disturbed == 0, "%d times", disturbed.load());
}

// Plain memory: what run() wrote is seen after it, and what was written between two runs in the second.
void writes_are_visible(int threads, int rounds) {
  Pool pool(threads);
  std::vector<int> input(61), output(61);
  int wrong = 0;
  for (int round = 0; round < rounds; ++round) {
    for (int& x : input) x = round;
    pool.run(61, [&](int task, int) { output[task] = input[task] + task; });
    for (int task = 0; task < 61; ++task) wrong += output[task] != round + task;
  }
  CHECK(wrong == 0, "%d threads: %d stale values", threads, wrong);
}

void many_tiny_runs(int threads, int runs) {
  Pool pool(threads);
  std::vector<int64_t> sums(3 * 16);
  for (int run = 0; run < runs; ++run) pool.run(3, [&](int task, int) { sums[task * 16] += task + 1; });
  for (int task = 0; task < 3; ++task)
    CHECK(sums[task * 16] == static_cast<int64_t>(runs) * (task + 1), "%d threads: task %d summed to %lld",
          threads, task, static_cast<long long>(sums[task * 16]));
}

// The body is dead as soon as run() has returned: a late worker must not call it.
void no_worker_comes_late(int threads) {
  Pool pool(threads);
  int wrong = 0;
  for (int run = 0; run < 3000; ++run) {
    const int tasks = 2 + run % 5;
    std::vector<int> seen(tasks, 0);
    {
      const std::function<void(int)> body = [&](int task) { seen[task] += run; };
      pool.run(tasks, [&](int task, int) { body(task); });
    }
    for (int x : seen) wrong += x != run;
  }
  CHECK(wrong == 0, "%d threads: %d wrong values", threads, wrong);
}

void uneven_tasks(int threads) {
  Pool pool(threads);
  for (int round = 0; round < 20; ++round) {
    std::vector<int64_t> results(40);
    pool.run(40, [&](int task, int) {
      const int64_t work = task == 0 ? 400'000 : task % 7 == 0 ? 20'000 : 10;
      volatile int64_t x = 0;
      for (int64_t i = 0; i < work; ++i) x = x + i;
      results[task] = x;
    });
    for (int task = 0; task < 40; ++task) {
      const int64_t work = task == 0 ? 400'000 : task % 7 == 0 ? 20'000 : 10;
      CHECK(results[task] == work * (work - 1) / 2, "%d threads: task %d", threads, task);
    }
  }
}

// One thread is held up in the middle of a task until all others are done: whoever is free must take them.
void a_slow_core_holds_up_its_own_task_only(int threads) {
  Pool pool(threads);
  std::atomic<int> done{0}, left_over{0};
  pool.run(100, [&](int task, int) {
    if (task == 0) {
      for (int ms = 0; ms < 10'000 && done < 99; ++ms) sleep_ms(1);
      left_over = 99 - done;
    }
    ++done;
  });
  CHECK(left_over == 0, "%d threads: %d tasks waited for a slow thread", threads, left_over.load());
  CHECK(done == 100, "%d threads: %d tasks", threads, done.load());
}

// More threads than the process may use cores: they take turns, and nobody waits for one that does not run.
void threads_that_share_one_core() {
#if defined(__linux__)
  cpu_set_t all, one;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0, "no affinity mask");
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0, "the mask cannot be set");
  {
    Pool pool(4);  // its threads inherit the mask
    std::vector<int64_t> sums(64);
    for (int run = 0; run < 500; ++run) pool.run(64, [&](int task, int) { sums[task] += task; });
    for (int task = 0; task < 64; ++task)
      CHECK(sums[task] == 500 * task, "task %d: %lld", task, static_cast<long long>(sums[task]));
  }
  CHECK(sched_setaffinity(0, sizeof all, &all) == 0, "the mask cannot be set back");
#endif
}

// What it costs that all threads meet: a loop whose tasks wait until each thread has one. Printed, not judged.
void cost_of_a_barrier(int threads) {
  Pool pool(threads);
  const auto some = [&](int runs) {
    const auto start = std::chrono::steady_clock::now();
    for (int run = 0; run < runs; ++run) {
      std::atomic<int> arrived{0};
      pool.run(threads, [&](int, int) {
        ++arrived;
        for (int spins = 0; arrived < threads; ++spins)
          if (spins > 10'000) std::this_thread::yield();
      });
    }
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count() / runs;
  };
  some(100);
  std::vector<double> us;
  for (int round = 0; round < 9; ++round) us.push_back(some(1000));
  std::sort(us.begin(), us.end());
  std::printf("a barrier of %d threads: %.2f us (%.2f-%.2f), %d usable cores\n", threads, us[4], us[2], us[6],
              gptoss::cpu::usable_cores());
}

void pools_come_and_go() {
  for (int round = 0; round < 400; ++round)
    for (int threads : {1, 2, 3, 8}) {
      Pool pool(threads);
      if (round % 3 == 0)
        continue;  // never used: its workers may be ended before they have looked at anything
      std::atomic<int> ran{0};
      pool.run(threads + 1, [&](int, int) { ++ran; });
      CHECK(ran == threads + 1, "%d threads: %d tasks", threads, ran.load());
      if (round % 20 == 1) sleep_ms(1);  // workers asleep when the pool goes
    }
}

void two_pools_in_two_threads() {
  const auto work = [] {
    Pool pool(3);
    std::vector<int64_t> sums(64);
    for (int run = 0; run < 2000; ++run) pool.run(64, [&](int task, int) { sums[task] += task; });
    for (int task = 0; task < 64; ++task)
      CHECK(sums[task] == 2000 * task, "task %d: %lld", task, static_cast<long long>(sums[task]));
  };
  std::thread other(work);
  work();
  other.join();
}

void idle_threads_sleep() {
  Pool pool(4);
  std::atomic<int> ran{0};
  pool.run(100, [&](int, int) { ++ran; });
  sleep_ms(50);
  const double before = cpu_seconds();
  sleep_ms(200);
  const double burnt = cpu_seconds() - before;
  CHECK(burnt < 0.1, "an idle pool burnt %.3f s of processor time in 0.2 s",
        burnt);                             // spinning: 0.4 and more
  pool.run(100, [&](int, int) { ++ran; });  // and they wake up
  CHECK(ran == 200, "%d tasks", ran.load());
}

void a_poll_that_says_stop_drops_the_rest(int threads, int tasks) {
  Pool pool(threads);
  const std::thread::id here = std::this_thread::get_id();
  int asked = 0;
  bool elsewhere = false;
  const std::function<bool()> poll = [&] {
    elsewhere = elsewhere || std::this_thread::get_id() != here;
    return ++asked == 2;
  };
  pool.watch(&poll);
  CHECK(!pool.stopped(), "stopped before it began");
  std::atomic<int> ran{0};
  for (int run = 0; run < 4000 && !pool.stopped(); ++run)
    pool.run(tasks, [&](int, int) {
      ++ran;
      sleep_ms(1);
    });
  CHECK(pool.stopped() && asked == 2, "%d threads: asked %d times, stopped %d", threads, asked,
        pool.stopped());
  CHECK(!elsewhere, "%d threads: asked from a worker", threads);
  const int before = ran;
  pool.run(tasks, [&](int, int) { ++ran; });
  CHECK(ran == before, "%d threads: %d tasks began after the stop", threads, ran - before);
  pool.watch(nullptr);
  CHECK(!pool.stopped(), "a new watch begins unstopped");
  pool.run(tasks, [&](int, int) { ++ran; });
  CHECK(ran == before + tasks, "%d threads: %d of %d tasks ran after the watch", threads, ran - before,
        tasks);
}

// The caller has nothing left to do, another thread has a long task: a stop must be heard now, not later.
void a_poll_is_asked_while_waiting() {
  Pool pool(2);
  std::atomic<bool> worker_began{false}, asked{false};
  const std::function<bool()> poll = [&] {
    if (worker_began) asked = true;
    return asked.load();
  };
  pool.watch(&poll);
  pool.run(2, [&](int, int worker) {
    if (worker != 0) worker_began = true;
    for (int ms = 0; ms < 10'000 && (worker == 0 ? !worker_began : !asked); ++ms) sleep_ms(1);
  });
  CHECK(asked, "a worker was waited for, and nobody asked");
  pool.watch(nullptr);
}

void usable_cores_follow_the_affinity_mask() {
#if defined(__linux__)
  cpu_set_t all, one;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0, "no affinity mask");
  const int before = gptoss::cpu::usable_cores();
  CHECK(before >= 1 && before <= CPU_COUNT(&all), "%d usable cores of %d", before, CPU_COUNT(&all));
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0, "the mask cannot be set");
  CHECK(gptoss::cpu::usable_cores() == 1, "%d usable cores in a mask of one", gptoss::cpu::usable_cores());
  CHECK(sched_setaffinity(0, sizeof all, &all) == 0, "the mask cannot be set back");
  CHECK(gptoss::cpu::usable_cores() == before, "%d usable cores", gptoss::cpu::usable_cores());
#endif
}

// The child of a fork() has the pool's memory and none of its threads: to destroy it there must not wait
// for them.
void a_fork_can_destroy_the_pool() {
  auto* pool = new Pool(3);
  std::atomic<int> ran{0};
  pool->run(10, [&](int, int) { ++ran; });
  const pid_t child = fork();
  if (child == 0) {
    delete pool;
    _exit(0);
  }
  int status = -1;
  for (int ms = 0; ms < 10'000 && waitpid(child, &status, WNOHANG) == 0; ++ms) sleep_ms(1);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child hangs or died: status %d", status);
  pool->run(10, [&](int, int) { ++ran; });
  CHECK(ran == 20, "%d tasks in the parent", ran.load());
  delete pool;
}

}  // namespace

int main() {
  alarm(280);  // a hang is a failure
  every_task_runs_once();
  a_worker_does_one_task_at_a_time();
  for (int threads : {1, 2, 5}) writes_are_visible(threads, 3000);
  many_tiny_runs(2, 100'000);
  many_tiny_runs(8, 5'000);
  for (int threads : {2, 8}) no_worker_comes_late(threads);
  for (int threads : {1, 2, 8}) uneven_tasks(threads);
  for (int threads : {2, 3, 8}) a_slow_core_holds_up_its_own_task_only(threads);
  threads_that_share_one_core();
  pools_come_and_go();
  two_pools_in_two_threads();
  idle_threads_sleep();
  for (int threads : {1, 2, 8})
    for (int tasks : {1, 300}) a_poll_that_says_stop_drops_the_rest(threads, tasks);
  a_poll_is_asked_while_waiting();
  usable_cores_follow_the_affinity_mask();
  a_fork_can_destroy_the_pool();
  cost_of_a_barrier(2);
  return test::finish("threads_test");
}
