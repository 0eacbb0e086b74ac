// One step ahead: the next step is submitted before the last one is waited for, and nobody can tell by what comes of it.
//
//   ahead_test [schedules] [first seed]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "check.h"
#include "deferred_device.h"
#include "tiny_model.h"

namespace {

using namespace gptoss;
using namespace test;

constexpr EngineLimits kLimits{
    .max_context = 200, .max_sequences = 4, .max_tokens = 80, .max_outputs = 80, .max_checkpoints = 3};

struct Ahead {
  explicit Ahead(const TinyModel& model, EngineLimits limits = kLimits) {
    auto owned = std::make_unique<DeferredDevice>(cpu_device());
    device = owned.get();
    engine = open_engine(model, limits, std::move(owned));
  }
  DeferredDevice* device;
  std::unique_ptr<Engine> engine;
};

// A prompt and what follows it, one by one in an engine that knows nothing else: the oracle.
struct Chain {
  Tokens tokens;
  int prompt;
  uint64_t seed;
  std::vector<gptoss::Output> outputs;  // of the draw behind tokens[i]; none within the prompt

  Sampling sampling() const {
    Sampling s = drawn(seed);
    s.logprobs = static_cast<int32_t>(seed % 4) - 1;
    if (seed % 3 == 0) s.temperature = 0;
    return s;
  }
};

Chain make_chain(const TinyModel& model, const Tokens& prompt, int length, uint64_t seed) {
  Chain chain{prompt, static_cast<int>(prompt.size()), seed, std::vector<gptoss::Output>(prompt.size() - 1)};
  const auto engine = open_engine(model, kLimits);
  const auto session = engine->session();
  Tokens next = prompt;
  while (static_cast<int>(chain.tokens.size()) < length) {
    chain.outputs.push_back(
        engine->step({{.session = session, .tokens = next, .rows = {}, .sampling = chain.sampling()}})[0]);
    next = {chain.outputs.back().token};
    chain.tokens.push_back(next[0]);
  }
  return chain;
}

bool same_output(const gptoss::Output& a, const gptoss::Output& b) {
  return a.token == b.token && a.error == b.error && a.logprob == b.logprob && a.top_tokens == b.top_tokens &&
         same(a.top_logprobs, b.top_logprobs);
}

// Of ten steps every one but the first is submitted before the one before it is waited for, and all draw the same.
void the_next_step_is_submitted_before_the_last_one_is_waited_for(const TinyModel& model) {
  Random random(1);
  const Chain chain = make_chain(model, random_tokens(random, model, 5), 16, 4);
  const Ahead ahead(model);
  const auto session = ahead.engine->session();
  auto step = ahead.engine->submit({{.session = session, .tokens = slice(chain.tokens, 0, 5), .rows = {}, .sampling = chain.sampling()}});
  std::vector<std::string> want{"submit 1"};
  for (int n = 1; n <= 10; ++n) {
    const auto next = n == 10 ? nullptr
                              : ahead.engine->submit({{.session = session, .tokens = {kDrawnBefore}, .rows = {},
                                                       .sampling = chain.sampling()}},
                                                     step);
    if (next) want.push_back("submit " + std::to_string(n + 1));
    CHECK(session->length() == (n == 1 ? 0 : n + 3), "%d tokens before step %d was collected", session->length(), n);
    const auto outputs = ahead.engine->collect(step);
    want.push_back("wait " + std::to_string(n));
    CHECK(same_output(outputs[0], chain.outputs[n + 3]), "step %d drew %d, wanted %d", n, outputs[0].token,
          chain.outputs[n + 3].token);
    step = next;
  }
  CHECK(ahead.device->log == want, "%zu calls, wanted %zu", ahead.device->log.size(), want.size());
  CHECK(session->tokens().all() == slice(chain.tokens, 0, 14), "other tokens in the cache");
}

template <class Call>
void refused(const char* what, const Call& call) {
  bool thrown = false;
  try {
    call();
  } catch (const std::invalid_argument&) {
    thrown = true;
  }
  CHECK(thrown, "%s was not refused", what);
}

void what_cannot_be_is_refused(const TinyModel& model) {
  const Ahead ahead(model);
  Engine& engine = *ahead.engine;
  const auto a = engine.session(), b = engine.session();
  const auto work = [](const std::shared_ptr<Session>& session, Tokens tokens, std::vector<int32_t> rows = {}) {
    return std::vector<Work>{{.session = session, .tokens = std::move(tokens), .rows = std::move(rows), .sampling = drawn(1)}};
  };
  refused("a draw of no step", [&] { engine.submit(work(a, {kDrawnBefore})); });
  const auto first = engine.submit(work(a, {1, 2}));
  refused("a session of a step under way", [&] { engine.step(work(a, {1})); });
  refused("a session that is cut back in a step", [&] { engine.truncate(*a, 0); });
  refused("the draw of a session that did not draw", [&] { engine.submit(work(b, {kDrawnBefore}), first); });
  refused("a known token in place of the draw", [&] { engine.submit(work(a, {3}), first); });
  const auto second = engine.submit(work(a, {kDrawnBefore}), first);
  CHECK(!engine.submit(work(a, {kDrawnBefore}), first), "a step has two successors");
  refused("the second step first", [&] { engine.collect(second); });
  engine.collect(first);
  engine.collect(second);
  refused("a step twice", [&] { engine.collect(second); });
  CHECK(a->length() == 3, "%d tokens", a->length());
  const auto rows = engine.submit(work(b, {1}, {0}));
  refused("a step behind one with rows", [&] { engine.submit(work(b, {kDrawnBefore}), rows); });
  CHECK(engine.collect(rows)[0].logits.size() == 83u || model.config.vocab_size != 83, "no logits");
  const auto cpu = open_engine(model, kLimits);
  const auto alone = cpu->submit(work(cpu->session(), {1}));
  refused("a step ahead on a device that runs none", [&] { cpu->submit(work(cpu->session(), {1}), alone); });
}

// A page is not free while the step that was in it runs, though its sequence has ended.
void pages_of_a_discarded_step_come_back_when_it_has_ended(const TinyModel& model) {
  const Ahead ahead(model);
  Engine& engine = *ahead.engine;
  auto session = engine.session();
  const int all = engine.free_pages();
  const auto first = engine.submit({{.session = session, .tokens = Tokens(64, 1), .rows = {}, .sampling = drawn(2)}});
  const auto second = engine.submit({{.session = session, .tokens = {kDrawnBefore}, .rows = {}, .sampling = drawn(2)}}, first);
  CHECK(engine.free_pages() == all - 4, "%d pages of 4", all - engine.free_pages());
  engine.collect(first);
  session.reset();  // it has drawn what ends it
  CHECK(engine.free_pages() == all - 4, "pages are free under a step that runs");
  const auto outputs = engine.collect(second, {true});
  CHECK(outputs.size() == 1 && outputs[0].token == -1, "a token of a sequence that has ended");
  CHECK(engine.free_pages() == all, "%d pages are left", all - engine.free_pages());

  // Left out of the first, it is left out of the second, where its pages are given back.
  const auto other = engine.session();
  const auto third = engine.submit({{.session = other, .tokens = Tokens(64, 1), .rows = {}, .sampling = drawn(2)}});
  const auto fourth = engine.submit({{.session = other, .tokens = {kDrawnBefore}, .rows = {}, .sampling = drawn(2)}}, third);
  engine.collect(third, {true});
  CHECK(engine.free_pages() == all - 4 && other->is_reserved(), "pages are free under a step that runs");
  engine.collect(fourth);
  CHECK(engine.free_pages() == all && other->length() == 0, "%d pages are left", all - engine.free_pages());
}

struct Broken : std::runtime_error {
  Broken() : std::runtime_error("broken by the schedule") {}
};

struct Tally {
  int ahead = 0, alone = 0, discarded = 0, failed_alone = 0, interrupted = 0, broken = 0, no_room = 0, resumed = 0, between = 0;
};

// Sequences along chains, most steps one ahead; they end, are cut short, go on after that, fail and are interrupted.
class Schedule {
 public:
  Schedule(const std::vector<Chain>& chains, const TinyModel& model, uint64_t seed, Tally& tally)
      : chains_(chains), random_(seed), seed_(seed), tally_(tally),
        ahead_(model, {.max_context = 200,
                       .max_sequences = 1 + random_.below(4),
                       .max_total_tokens = random_.below(2) ? 200 : 0,
                       .max_tokens = 80,
                       .max_outputs = 80,
                       .max_checkpoints = random_.below(4)}) {}

  void run(int turns) {
    Engine& engine = *ahead_.engine;
    for (int turn = 0; turn < turns; ++turn) {
      while (sequences_.size() < static_cast<size_t>(engine.limits().max_sequences) && random_.below(2)) join();
      if (!current_.step && !begin(nullptr)) continue;
      Parts next;
      if (random_.below(5)) {
        if (begin(&current_, &next)) ++tally_.ahead;
      } else {
        ++tally_.alone;
      }
      if (random_.below(12) == 0) step_between();
      const bool all_is_well = collect(next);
      current_ = all_is_well ? std::move(next) : Parts{};
      std::erase_if(sequences_, [&](const auto& s) { return s->over && !holds(*s); });
    }
    current_ = {};
    sequences_.clear();
    engine.session();  // no step, so what was given up is still on the engine's list
    engine.step({});
    check_pages();
  }

 private:
  struct Sequence {
    std::shared_ptr<Session> session;
    const Chain* chain;
    int known;          // tokens
    bool over = false;  // it takes part in no more steps
    bool out = false;   // it was left out of the step that runs
  };
  using Member = std::shared_ptr<Sequence>;
  struct Parts {
    std::shared_ptr<Engine::Step> step;
    std::vector<Member> members;
    std::vector<int> first, last;  // tokens of the chain
    std::vector<bool> forbidden, dropped;
  };

  bool holds(const Sequence& s) const {
    for (const Member& member : current_.members)
      if (member.get() == &s) return true;
    return false;
  }

  void join() {
    const Chain& chain = chains_[random_.below(static_cast<int>(chains_.size()))];
    const int known = chain.prompt + random_.below(static_cast<int>(chain.tokens.size()) - chain.prompt - 2);
    auto session = ahead_.engine->session(slice(chain.tokens, 0, known));
    tally_.resumed += session->length() > 0;
    sequences_.push_back(std::make_shared<Sequence>(Sequence{std::move(session), &chain, known}));
  }

  // Submits a step of some sequences, of those of `after` with what they draw there.
  bool begin(const Parts* after, Parts* to = nullptr) {
    Parts parts;
    std::vector<Work> work;
    int room = 80;
    for (const Member& s : sequences_) {
      if (s->over || s->out || room == 0) continue;
      const size_t at = after ? std::find(after->members.begin(), after->members.end(), s) - after->members.begin() : 0;
      const bool there = after && at < after->members.size();
      int first = s->session->length(), last;
      if (there) {
        first = after->last[at];
        last = first + 1;
        if (after->dropped[at] || first != s->known || last >= static_cast<int>(s->chain->tokens.size()) || random_.below(8) == 0)
          continue;
      } else {
        last = std::min(random_.below(3) ? s->known : first + 1 + random_.below(s->known - first), first + room);
      }
      room -= last - first;
      Work w{.session = s->session, .tokens = there ? Tokens{kDrawnBefore} : slice(s->chain->tokens, first, last),
             .rows = {}, .sampling = s->chain->sampling()};
      if (last < s->known && !there) w.sampling.reset();
      if (random_.below(6) == 0) w.checkpoints.push_back(last - first);
      const bool forbidden = w.sampling && random_.below(30) == 0;
      if (forbidden) w.sampling->mask.assign(3, 0);
      work.push_back(std::move(w));
      parts.members.push_back(s);
      parts.first.push_back(first);
      parts.last.push_back(last);
      parts.forbidden.push_back(forbidden);
      parts.dropped.push_back(false);
    }
    if (work.empty()) return false;
    const std::vector<Member> members = parts.members;
    fail_sometimes();
    try {
      parts.step = ahead_.engine->submit(std::move(work), after ? after->step : nullptr);
    } catch (const Broken&) {
      ++tally_.broken;
    } catch (const OutOfPages&) {
      ++tally_.no_room;
      if (!after) sequences_.erase(std::find(sequences_.begin(), sequences_.end(), members.back()));
    }
    ahead_.device->before = nullptr;
    if (!parts.step) return false;
    (to ? *to : current_) = std::move(parts);
    return true;
  }

  void fail_sometimes() {
    if (random_.below(25) == 0)
      ahead_.device->before = [once = false](const std::string&) mutable {
        if (!std::exchange(once, true)) throw Broken();
      };
  }

  // A step of somebody else: the one under way is finished for it, and the next one no longer its successor.
  void step_between() {
    const auto session = ahead_.engine->session();
    try {
      const auto outputs = ahead_.engine->step({{.session = session, .tokens = slice(chains_[0].tokens, 0, chains_[0].prompt),
                                                 .rows = {}, .sampling = chains_[0].sampling()}});
      CHECK(same_output(outputs[0], chains_[0].outputs[chains_[0].prompt - 1]), "schedule %d: other bits in between", number());
      ++tally_.between;
    } catch (const OutOfPages&) {
    }
  }

  // False where the step failed, and the one behind it with it.
  bool collect(Parts& next) {
    Parts& parts = current_;
    for (size_t i = 0; i < parts.members.size(); ++i)
      if (random_.below(15) == 0) parts.dropped[i] = true;
    fail_sometimes();
    const bool interrupt = random_.below(25) == 0;
    std::vector<gptoss::Output> outputs;
    std::vector<int> before;
    for (const Member& s : parts.members) before.push_back(s->session->length());
    try {
      outputs = ahead_.engine->collect(parts.step, parts.dropped, [&] { return interrupt; });
    } catch (const Broken&) {
      ++tally_.broken;
    } catch (const Interrupted&) {
      ++tally_.interrupted;
    }
    ahead_.device->before = nullptr;
    if (outputs.empty()) {  // none of this step is there, nor of the one behind it
      for (size_t i = 0; i < parts.members.size(); ++i) {
        CHECK(parts.members[i]->session->length() == before[i] && !parts.members[i]->session->is_reserved(),
              "schedule %d: a step that failed left a trace", number());
        parts.members[i]->out = false;
      }
      return false;
    }
    for (size_t i = 0; i < parts.members.size(); ++i) {
      Sequence& s = *parts.members[i];
      s.out = false;
      const bool out = parts.dropped[i] || parts.forbidden[i];
      CHECK(s.session->length() == (out ? before[i] : parts.last[i]), "schedule %d: %d tokens after %d to %d", number(),
            s.session->length(), parts.first[i], parts.last[i]);
      CHECK(outputs[i].error.empty() == (parts.dropped[i] || !parts.forbidden[i]), "schedule %d: \"%s\"", number(),
            outputs[i].error.c_str());
      tally_.failed_alone += parts.forbidden[i] && !parts.dropped[i];
      if (out) {
        s.over = random_.below(2);
        for (size_t j = 0; j < next.members.size(); ++j) {
          if (next.members[j].get() != &s) continue;
          next.dropped[j] = s.out = true;  // until that step has ended
          ++tally_.discarded;
        }
        continue;
      }
      const int drew = parts.last[i] - 1;
      if (parts.last[i] == s.known) {
        CHECK(same_output(outputs[i], s.chain->outputs[drew]), "schedule %d: drew %d behind token %d, wanted %d", number(),
              outputs[i].token, drew, s.chain->outputs[drew].token);
        ++s.known;
      }
      CHECK(s.session->tokens().all() == slice(s.chain->tokens, 0, parts.last[i]), "schedule %d: other tokens", number());
      if (s.known >= static_cast<int>(s.chain->tokens.size()) - 1 || random_.below(40) == 0) s.over = true;
      if (random_.below(20) == 0) ahead_.engine->checkpoint(*s.session);
    }
    return true;
  }

  void check_pages() {
    Engine& engine = *ahead_.engine;
    std::vector<std::shared_ptr<Session>> greedy;  // everything else that holds pages is a checkpoint
    for (bool room = true; room;) {
      greedy.push_back(engine.session());
      try {
        engine.step({{.session = greedy.back(), .tokens = {0}, .rows = {}, .sampling = {}}});
      } catch (const OutOfPages&) {
        room = false;
      }
    }
    greedy.clear();
    CHECK(engine.free_pages() == engine.pages(), "schedule %d: %d pages leaked", number(), engine.pages() - engine.free_pages());
  }

  int number() const { return static_cast<int>(seed_); }

  const std::vector<Chain>& chains_;
  Random random_;
  uint64_t seed_;
  Tally& tally_;
  Ahead ahead_;
  std::vector<Member> sequences_;
  Parts current_;
};

}  // namespace

int main(int argc, char** argv) {
  const int schedules = argc > 1 ? std::atoi(argv[1]) : 150;
  const uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  const TinyModel model(16);
  the_next_step_is_submitted_before_the_last_one_is_waited_for(model);
  what_cannot_be_is_refused(model);
  pages_of_a_discarded_step_come_back_when_it_has_ended(model);
  Random random(2);
  std::vector<Chain> chains;
  const Tokens common = random_tokens(random, model, 70);
  for (int i = 0; i < 6; ++i) {
    const Tokens prompt = joined(slice(common, 0, i % 3 * 35), random_tokens(random, model, 1 + random.below(9)));
    chains.push_back(make_chain(model, prompt, static_cast<int>(prompt.size()) + 75, 10 + i));
  }
  Tally tally;
  for (uint64_t seed = first; seed < first + schedules; ++seed) Schedule(chains, model, seed, tally).run(60);
  std::printf("%d steps ahead, %d alone; %d discarded, %d failed alone, %d interrupted, %d broken, %d without room; "
              "%d resumed, %d steps in between\n",
              tally.ahead, tally.alone, tally.discarded, tally.failed_alone, tally.interrupted, tally.broken,
              tally.no_room, tally.resumed, tally.between);
  for (int count : {tally.ahead, tally.alone, tally.discarded, tally.failed_alone, tally.interrupted, tally.broken,
                    tally.no_room, tally.resumed, tally.between})
    CHECK(schedules < 20 || count > 0, "something never happened");
  return test::finish("ahead_test");
}
