// Random schedules: sequences join, leave, resume, rewind and share, in batches of prefill chunks and decodes, from
// several threads on one or two engines, among interruptions, failures and evictions. Every logit and every drawn
// token is that of a single cold run, bit for bit; in the end no page is missing.
//
//   schedule_test [schedules] [first seed]
#include <unistd.h>

#include <atomic>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "book.h"
#include "check.h"
#include "growth_devices.h"
#include "tiny_model.h"

namespace {

using namespace gptoss;
using test::Book, test::WatchedDevice;

struct Broken : std::runtime_error {
  Broken() : std::runtime_error("broken by the schedule") {}
};

// How the step of this thread is to end before its end, if at all.
struct Stop {
  int calls = -1;  // of the device until then
  bool by_poll = false;
  bool asked = false;
};
thread_local Stop stop;

// A device that asks at every call, so that an interruption comes at any place of a step, not only after 50 ms.
std::unique_ptr<Backend> impatient_device(int threads) {
  auto device = std::make_unique<WatchedDevice>(test::cpu_device(threads));
  WatchedDevice* self = device.get();
  device->before = [self](const std::string&) {
    if (stop.calls < 0 || --stop.calls >= 0) return;
    if (!stop.by_poll) throw Broken();
    stop.asked = true;
    if (self->poll && (*self->poll)()) throw Interrupted();
    stop.calls = 0;  // nobody to ask yet: again at the next call
  };
  return device;
}

struct Tally {
  std::atomic<int> steps{0}, interrupted{0}, broken{0}, refused{0}, resumed{0}, rewound{0}, alone{0};
};

// One thread's sequences on one engine.
class Driver {
 public:
  Driver(const Book& book, Engine& engine, uint64_t seed, uint64_t schedule, Tally& tally)
      : book_(book), engine_(engine), random_(seed), schedule_(schedule), tally_(tally) {}

  void live(int actions) {
    for (int i = 0; i < actions; ++i) {
      const int kind = random_.below(20);
      if (sequences_.empty() || kind == 0)
        join();
      else if (kind < 14)
        step();
      else if (kind < 16)
        rewind(any());
      else if (kind == 16)
        share(any());
      else if (kind == 17)
        engine_.checkpoint(*any().session);
      else if (sequences_.size() > 2)
        leave();
      else
        join();
    }
  }

 private:
  struct Sequence {
    std::shared_ptr<Session> session;
    int branch;
  };
  struct Part {  // of a step
    Sequence* sequence;
    int first, last;
    bool rows, drawn, forbidden;
  };

  Sequence& any() { return sequences_[random_.below(static_cast<int>(sequences_.size()))]; }

  void join() {
    const int branch = random_.below(static_cast<int>(book_.branches.size()));
    auto session =
        random_.below(4)
            ? engine_.session(test::slice(book_.branches[branch].tokens, 0, 1 + random_.below(book_.length)))
            : engine_.session();
    tally_.resumed += session->length() > 0;
    sequences_.push_back({std::move(session), branch});
  }

  void leave() { sequences_.erase(sequences_.begin() + random_.below(static_cast<int>(sequences_.size()))); }

  // Back, and on along any branch that agrees so far.
  void rewind(Sequence& s) {
    const int at = s.session->length();
    const int to = random_.below(2) ? std::max(0, at - random_.below(65)) : random_.below(at + 1);
    const int left = engine_.truncate(*s.session, to),
              other = random_.below(static_cast<int>(book_.branches.size()));
    CHECK(left == to || left == 0, "schedule %llu: %d cut back to %d gave %d", number(), at, to, left);
    if (book_.shared(s.branch, other) >= left) s.branch = other;
    ++tally_.rewound;
  }

  // Another sequence that goes on from here.
  void share(Sequence& s) {
    const int length = s.session->length(), branch = s.branch;
    if (length == 0 || length == book_.length) return;
    engine_.checkpoint(*s.session);
    auto twin = engine_.session(test::slice(book_.branches[branch].tokens, 0, length + 1));
    tally_.resumed += twin->length() > 0;
    sequences_.push_back({std::move(twin), branch});
  }

  std::vector<Part> parts() {
    std::vector<Part> parts;
    int tokens = engine_.limits().max_tokens, rows = engine_.limits().max_outputs;
    for (int i = static_cast<int>(sequences_.size()) - 1; i > 0; --i)
      std::swap(sequences_[i], sequences_[random_.below(i + 1)]);
    for (Sequence& s : sequences_) {
      const int at = s.session->length();
      if (static_cast<int>(parts.size()) == engine_.limits().max_sequences || tokens == 0 || rows == 0 ||
          at == book_.length)
        continue;
      const int most = std::min(tokens, book_.length - at);
      Part part{&s,
                at,
                at + (random_.below(2) ? 1 : 1 + random_.below(most)),
                false,
                random_.below(3) > 0,
                random_.below(25) == 0};
      part.rows = part.last - at + 1 <= rows && random_.below(2);
      part.drawn = part.drawn || part.forbidden;
      tokens -= part.last - at;
      rows -= (part.rows ? part.last - at : 0) + part.drawn;
      parts.push_back(part);
    }
    return parts;
  }

  Work work_of(const Part& part) {
    Work work{.session = part.sequence->session,
              .tokens = test::slice(book_.branches[part.sequence->branch].tokens, part.first, part.last),
              .rows = {},
              .sampling = {},
              .checkpoints = {}};
    if (random_.below(4) == 0) work.checkpoints.push_back(1 + random_.below(part.last - part.first));
    if (random_.below(6) == 0) work.checkpoints.push_back(part.last - part.first);
    if (part.rows) work.rows = test::up_to(part.last - part.first);
    if (part.drawn) work.sampling = book_.sampling(part.last - 1);
    if (part.forbidden) work.sampling->mask.assign(3, 0);
    return work;
  }

  void step() {
    const std::vector<Part> chosen = parts();
    if (chosen.empty()) return leave();
    std::vector<Work> work;
    for (const Part& part : chosen) work.push_back(work_of(part));
    stop = {random_.below(4) ? -1 : random_.below(50), random_.below(2) == 0};
    std::vector<Output> outputs;
    bool done = false, no_room = false;
    try {
      outputs = engine_.step(work, [] { return stop.asked; });
      done = true;
    } catch (const Interrupted&) {
      ++tally_.interrupted;
    } catch (const Broken&) {
      ++tally_.broken;
    } catch (const OutOfPages&) {
      ++tally_.refused;
      no_room = true;
    }
    stop = {};
    ++tally_.steps;
    for (size_t i = 0; i < chosen.size(); ++i) {
      const Part& part = chosen[i];
      const bool committed = done && !part.forbidden;
      CHECK(part.sequence->session->length() == (committed ? part.last : part.first),
            "schedule %llu: %d tokens after %d to %d", number(), part.sequence->session->length(), part.first,
            part.last);
      if (!done) continue;
      tally_.alone += part.forbidden;
      CHECK(outputs[i].error.empty() != part.forbidden, "schedule %llu: \"%s\"", number(),
            outputs[i].error.c_str());
      CHECK(book_.right(outputs[i], part.sequence->branch, part.first, part.last, part.rows,
                        part.drawn && !part.forbidden),
            "schedule %llu: branch %d, tokens %d to %d of %zu sequences: other bits than cold", number(),
            part.sequence->branch, part.first, part.last, chosen.size());
    }
    if (no_room) leave();
  }

  unsigned long long number() const { return schedule_; }

  const Book& book_;
  Engine& engine_;
  test::Random random_;
  uint64_t schedule_;
  Tally& tally_;
  std::vector<Sequence> sequences_;
};

// When every sequence has left, checkpoints are all that holds pages; without room they go too, and nothing is missing.
void check_pages(Engine& engine, uint64_t schedule) {
  std::vector<std::shared_ptr<Session>> greedy;
  for (bool room = true; room;) {
    greedy.push_back(engine.session());
    try {
      engine.step({{.session = greedy.back(), .tokens = {0}, .rows = {}, .sampling = {}}});
    } catch (const OutOfPages&) {
      room = false;
    }
    try {  // the rest of the free pages, at no cost
      for (int take = 64 * engine.free_pages(); room && take > 0; take = 64 * (engine.free_pages() / 2)) {
        greedy.push_back(engine.session());
        greedy.back()->reserve(test::Tokens(std::max(1, take / 2 - 63), 0));
      }
    } catch (const OutOfPages&) {
    }
  }
  CHECK(engine.checkpoints() == 0, "schedule %llu: %d checkpoints outlived the need",
        static_cast<unsigned long long>(schedule), engine.checkpoints());
  greedy.clear();
  CHECK(engine.free_pages() == engine.pages(), "schedule %llu: %d of %d pages leaked",
        static_cast<unsigned long long>(schedule), engine.pages() - engine.free_pages(), engine.pages());
}

void run_schedule(const Book& book, uint64_t schedule, Tally& tally) {
  test::Random random(schedule);
  std::vector<std::unique_ptr<Engine>> engines;
  for (int count = 1 + (random.below(4) == 0); count > 0; --count) {
    const EngineLimits limits{.max_context = book.length,
                              .max_sequences = 1 + random.below(4),
                              .max_total_tokens = random.below(2) ? book.length + random.below(book.length) : 0,
                              .max_tokens = 1 + random.below(3) * 64 + random.below(64),
                              .max_outputs = 4 + random.below(150),
                              .max_checkpoints = random.below(3) ? random.below(8) : 0};
    engines.push_back(test::open_engine(book.model, limits, impatient_device(1 + random.below(2))));
  }
  std::vector<std::thread> threads;
  for (auto& engine : engines)
    for (int count = random.below(2) ? 1 : 2 + random.below(2); count > 0; --count)
      threads.emplace_back([&book, &tally, schedule, engine = engine.get(), seed = random.bits()] {
        Driver(book, *engine, seed, schedule, tally).live(40);
      });
  for (auto& thread : threads) thread.join();
  for (auto& engine : engines) check_pages(*engine, schedule);
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kSchedules = 60;
#else
constexpr int kSchedules = 400;
#endif

}  // namespace

int main(int argc, char** argv) {
  const int schedules = argc > 1 ? std::atoi(argv[1]) : kSchedules;
  const uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  alarm(280 + static_cast<unsigned>(schedules));  // a hang is a failure
  const int windows[] = {1, 16, 64, 65, 128};
  std::map<int, std::unique_ptr<Book>> books;
  Tally tally;
  for (uint64_t schedule = first; schedule < first + static_cast<uint64_t>(schedules); ++schedule) {
    const int window = windows[schedule % 5];
    if (!books[window]) books[window] = std::make_unique<Book>(window, 6, 400, 1000 + window);
    run_schedule(*books[window], schedule, tally);
  }
  std::printf(
      "%d schedules, %d steps: %d interrupted, %d broken, %d without room, %d with a sequence that failed "
      "alone; %d resumed, %d rewound\n",
      schedules, tally.steps.load(), tally.interrupted.load(), tally.broken.load(), tally.refused.load(),
      tally.alone.load(), tally.resumed.load(), tally.rewound.load());
  for (const auto* count :
       {&tally.interrupted, &tally.broken, &tally.refused, &tally.alone, &tally.resumed, &tally.rewound})
    CHECK(schedules < 20 || *count > 0, "something never happened");
  return test::finish("schedule_test");
}
