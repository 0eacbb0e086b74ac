#include "threads.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif

namespace gptoss::cpu {
namespace {

// A worker that finds nothing to do looks this long before it sleeps: longer than the gaps between the stages
// of a step and between the steps of a stream, short enough that an idle engine burns nothing.
constexpr int64_t kSpinNs = 200'000;
constexpr int64_t kPollNs = 50'000'000;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

#if defined(__linux__)
// The lines of a small file, none if it cannot be read. Not by way of streams: in a process that has two copies of the
// C++ library, which is what a module linked statically to its own makes, their number parsing was seen to crash.
std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (!file) return lines;
  std::string line;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    if (c != '\n') {
      line += static_cast<char>(c);
      continue;
    }
    lines.push_back(line);
    line.clear();
  }
  if (!line.empty()) lines.push_back(line);
  std::fclose(file);
  return lines;
}

// The whole number that a file begins with; 0 where there is none.
double number_in(const std::string& path) {
  const std::vector<std::string> lines = lines_of(path);
  return lines.empty() ? 0 : static_cast<double>(std::strtoll(lines[0].c_str(), nullptr, 10));
}

// The CPU quota of this process's cgroup and of those above it, in cores; infinity where there is none.
double cgroup_quota() {
  double cores = INFINITY;
  const auto narrow = [&cores](double quota, double period) {
    if (quota > 0 && period > 0) cores = std::min(cores, quota / period);
  };
  for (const std::string& line : lines_of("/proc/self/cgroup")) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    const bool v1_cpu = ("," + controllers + ",").find(",cpu,") != std::string::npos;
    if (!controllers.empty() && !v1_cpu) continue;
    for (;; path.erase(path.rfind('/'))) {
      const std::string folder = (v1_cpu ? "/sys/fs/cgroup/cpu" : "/sys/fs/cgroup") + (path == "/" ? "" : path);
      if (v1_cpu) {
        narrow(number_in(folder + "/cpu.cfs_quota_us"), number_in(folder + "/cpu.cfs_period_us"));
      } else {
        const std::vector<std::string> lines = lines_of(folder + "/cpu.max");  // "max 100000", or two numbers
        long long quota = 0, period = 0;
        if (!lines.empty() && std::sscanf(lines[0].c_str(), "%lld %lld", &quota, &period) == 2)
          narrow(static_cast<double>(quota), static_cast<double>(period));
      }
      if (path.empty() || path == "/") break;
    }
  }
  return cores;
}
#endif

}  // namespace

int usable_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
  const double quota = cgroup_quota();
  if (quota < cores) cores = static_cast<int>(std::ceil(quota));
#endif
  return std::max(cores, 1);
}

Pool::Pool(int threads) : process_(getpid()) {
  workers_.reserve(static_cast<size_t>(std::max(threads - 1, 0)));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (...) {  // no more threads to be had: those that started must not outlive us
    quit_.store(true);
    signal_.fetch_add(1);
    signal_.notify_all();
    for (auto& worker : workers_) worker.join();
    throw;
  }
}

Pool::~Pool() {
  if (getpid() != process_) {  // the threads stayed in the parent: nothing to stop, nothing that may be joined
    new std::vector<std::thread>(std::move(workers_));
    return;
  }
  quit_.store(true);
  signal_.fetch_add(1);
  signal_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Pool::watch(const std::function<bool()>* poll) {
  poll_ = poll;
  stop_.store(false, std::memory_order_relaxed);
  last_poll_ns_ = now_ns();
}

void Pool::ask() {
  if (!poll_ || stopped()) return;
  const int64_t now = now_ns();
  if (now - last_poll_ns_ < kPollNs) return;
  if ((*poll_)()) stop_.store(true, std::memory_order_relaxed);
  last_poll_ns_ = now_ns();
}

bool Pool::run_one(int worker) {
  uint64_t claim = claim_.load(std::memory_order_acquire);
  for (;;) {
    const uint32_t tasks = static_cast<uint32_t>(claim >> 32), next = static_cast<uint32_t>(claim);
    if (next >= tasks) return false;
    if (!claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
    if (!stopped()) job_.call(job_.body, static_cast<int>(next), worker);
    done_.fetch_add(1, std::memory_order_release);
    return true;
  }
}

void Pool::work(int worker) {
  for (;;) {
    // In this order: whoever sets quit_ counts the signal up afterwards, so we cannot sleep through it.
    const uint32_t seen = signal_.load(std::memory_order_acquire);
    if (quit_.load(std::memory_order_acquire)) return;
    while (run_one(worker)) {
    }
    const int64_t until = now_ns() + kSpinNs;
    bool woken = false;
    while (!woken && now_ns() < until) {
      for (int i = 0; i < 32 && !woken; ++i) {
        relax();
        woken = signal_.load(std::memory_order_acquire) != seen;
      }
    }
    if (!woken) signal_.wait(seen, std::memory_order_acquire);
  }
}

void Pool::run_erased(int tasks, Call call, const void* body) {
  if (tasks <= 0) return;
  if (workers_.empty() || tasks == 1) {
    for (int task = 0; task < tasks; ++task) {
      ask();
      if (!stopped()) call(body, task, 0);
    }
    return;
  }
  job_ = {call, body};
  done_.store(0, std::memory_order_relaxed);
  claim_.store(static_cast<uint64_t>(tasks) << 32, std::memory_order_release);
  signal_.fetch_add(1, std::memory_order_release);
  signal_.notify_all();
  do {
    ask();
  } while (run_one(0));
  // A worker that was put to sleep by the system in the middle of a task may keep us waiting for long: then
  // leave it the core.
  for (int spins = 0; done_.load(std::memory_order_acquire) != tasks; ++spins) {
    if (spins < 4096) {
      relax();
    } else {
      ask();
      std::this_thread::yield();
    }
  }
}

}  // namespace gptoss::cpu
