// A step that fails, at any call of the device, leaves no trace; nor does one without room.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "check.h"
#include "growth_devices.h"
#include "observed.h"
#include "tiny_model.h"

namespace test {

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Three sequences in the middle of their lives: one resumed inside a page that a checkpoint holds too, one that
// decodes, one that has not begun; and a step of all of them.
struct Scene {
  Scene(const TinyModel& m, bool observing) : model(m), observe(observing) {
    auto owned = std::make_unique<WatchedDevice>(cpu_device());
    device = owned.get();
    engine = open_engine(model,
                         {.max_context = 512,
                          .max_sequences = 3,
                          .max_tokens = 256,
                          .max_outputs = 256,
                          .max_checkpoints = 4,
                          .max_observed = 256},
                         std::move(owned));
    Random random(8);
    prompt = random_tokens(random, model, 400);
    const auto first = engine->session();
    engine->step({{.session = first,
                   .tokens = slice(prompt, 0, 150),
                   .rows = {},
                   .sampling = {},
                   .checkpoints = {150}}});
    warm = engine->session(slice(prompt, 0, 151));
    CHECK(warm->length() == 150, "%d tokens were found", warm->length());
    live = engine->session();
    run(*engine, live, slice(prompt, 20, 121));
    fresh = engine->session();
    sessions = {warm, live, fresh};
  }

  std::vector<gptoss::Output> step() {
    Sampling sampling = drawn(9);
    sampling.edits = {{.token = 5, .seen = 1, .count = 2, .bias = 1, .original = 0}};
    sampling.mask.assign(3, 0x7fffffffu);
    sampling.frequency_penalty = 0.5f;
    const std::vector<Work> work{
        {.session = warm, .tokens = slice(prompt, 200, 205), .rows = {0, 4}, .sampling = {}},
        {.session = live, .tokens = slice(prompt, 300, 301), .rows = {}, .sampling = sampling},
        {.session = fresh,
         .tokens = slice(prompt, 40, 110),
         .rows = {69},
         .sampling = drawn(10),
         .checkpoints = {20, 70}}};
    observed = everything(model.config, 76);
    return engine->step(work, nullptr, observe ? &observed : nullptr);
  }

  // Every logit of what comes after it.
  std::vector<float> after() {
    std::vector<float> all;
    for (const auto& session : sessions)
      for (float x : run(*engine, session, slice(prompt, 310, 330))) all.push_back(x);
    return all;
  }

  const TinyModel& model;
  bool observe;
  WatchedDevice* device;
  std::unique_ptr<Engine> engine;
  Tokens prompt;
  std::shared_ptr<Session> warm, live, fresh;
  std::vector<std::shared_ptr<Session>> sessions;
  Observed observed;
};

inline bool same_outputs(const std::vector<gptoss::Output>& a, const std::vector<gptoss::Output>& b) {
  bool equal = a.size() == b.size();
  for (size_t i = 0; equal && i < a.size(); ++i)
    equal = a[i].token == b[i].token && a[i].logprob == b[i].logprob && a[i].top_tokens == b[i].top_tokens &&
            same(a[i].logits, b[i].logits);
  return equal;
}

// 1 if the last page is another one, 0 if all are the same, -1 if the tables differ more than that.
inline int changed(const std::vector<int32_t>& now, const std::vector<int32_t>& before) {
  if (now.size() != before.size()) return -1;
  if (now == before) return 0;
  return std::equal(now.begin(), now.end() - 1, before.begin()) ? 1 : -1;
}

// The step fails at its n-th call of the device, before or after the device did its work, for every n there is.
template <class Failure>
void a_step_that_failed_left_no_trace(bool afterwards, bool observe, const Failure& fail) {
  const TinyModel model(16);
  Scene unharmed(model, observe);
  const auto want = unharmed.step();
  const auto want_after = unharmed.after();

  std::map<std::string, int> failed_at;
  for (int nth = 0;; ++nth) {
    Scene scene(model, observe);
    struct Before {
      int length;
      Tokens tokens;
      PageTables tables;
    };
    std::vector<Before> before;
    for (const auto& session : scene.sessions)
      before.push_back({session->length(), session->tokens().all(), session->tables()});
    const int free_pages = scene.engine->free_pages(), checkpoints = scene.engine->checkpoints();

    int calls = 0;
    std::string where;
    (afterwards ? scene.device->after : scene.device->before) = [&](const std::string& call) {
      if (calls++ != nth) return;
      where = call;
      fail();
    };
    bool failed = false;
    std::vector<gptoss::Output> outputs;
    try {
      outputs = scene.step();
    } catch (const Broken&) {
      failed = true;
    } catch (const Interrupted&) {
      failed = true;
    }
    scene.device->after = scene.device->before = nullptr;
    if (!failed) {
      CHECK(nth == calls && same_outputs(outputs, want), "%d calls", calls);
      break;
    }
    ++failed_at[where.substr(0, where.find(' '))];
    int own = 0;  // pages that were shared, and of which the sequence has its own copy now
    for (size_t i = 0; i < scene.sessions.size(); ++i) {
      const Session& session = *scene.sessions[i];
      CHECK(session.length() == before[i].length && session.tokens().all() == before[i].tokens,
            "failed at %s: length %d", where.c_str(), session.length());
      const int full = changed(session.tables().full, before[i].tables.full),
                window = changed(session.tables().window, before[i].tables.window);
      CHECK(full >= 0 && window >= 0 && (i == 0 || full + window == 0),
            "failed at %s: other pages in sequence %zu", where.c_str(), i);
      own += full + window;
    }
    CHECK(scene.engine->free_pages() == free_pages - own, "failed at %s: %d pages are gone", where.c_str(),
          free_pages - scene.engine->free_pages());
    CHECK(scene.engine->checkpoints() == checkpoints, "failed at %s: %d checkpoints", where.c_str(),
          scene.engine->checkpoints());
    CHECK(same_outputs(scene.step(), want), "failed at %s: the same step again gives other bits",
          where.c_str());
    CHECK(scene.observed.size() == unharmed.observed.size() &&
              (!observe || scene.observed[0].bytes == unharmed.observed[0].bytes),
          "failed at %s: observed other values", where.c_str());
    CHECK(same(scene.after(), want_after), "failed at %s: other bits later on", where.c_str());
  }
  for (const char* stage : {"embed", "attn_qkv", "attn", "attn_out", "moe_route", "moe_up", "moe_down",
                            "unembed", "sample", "copy_page", "submit", "wait", "write", "read"})
    CHECK(failed_at[stage] > 0, "nothing failed at %s", stage);
}

// A second sequence for which there is no room takes the first one's room back with it.
inline void no_room_for_the_second_sequence() {
  const TinyModel model(16);
  const auto engine = open_engine(
      model,
      {.max_context = 256, .max_sequences = 2, .max_tokens = 256, .max_outputs = 256, .max_checkpoints = 0});
  Random random(9);
  const Tokens prompt = random_tokens(random, model, 256);
  const auto want = cold(*engine, slice(prompt, 0, 66));
  const auto small = engine->session();
  run(*engine, small, slice(prompt, 0, 65));
  std::vector<std::shared_ptr<Session>> others;
  for (;;) {  // more sequences than were planned for
    others.push_back(engine->session());
    try {
      run(*engine, others.back(), slice(prompt, 0, 192));
    } catch (const OutOfPages&) {
      break;
    }
  }
  CHECK(others.back()->length() == 0, "a prompt without room has %d tokens", others.back()->length());
  const PageTables before = small->tables();
  const int free_pages = engine->free_pages();
  bool refused = false;
  try {
    engine->step({{.session = small, .tokens = random_tokens(random, model, 2), .rows = {}, .sampling = {}},
                  {.session = others.back(), .tokens = slice(prompt, 0, 250), .rows = {}, .sampling = {}}});
  } catch (const OutOfPages&) {
    refused = true;
  }
  CHECK(refused && small->length() == 65 && small->tables().full == before.full &&
            small->tables().window == before.window && engine->free_pages() == free_pages,
        "the first sequence has a trace: %d tokens, %d pages", small->length(),
        free_pages - engine->free_pages());
  CHECK(same(run(*engine, small, slice(prompt, 65, 66)), rows_of(want, model, 65, 66)),
        "other bits after the refusal");
  others.clear();
  run(*engine, engine->session(), slice(prompt, 0, 192));
}

// One sequence gets no token; the others do, and only it is as it was.
inline void one_sequence_fails_alone() {
  const TinyModel model(16);
  const auto engine =
      open_engine(model, {.max_context = 256, .max_sequences = 3, .max_tokens = 256, .max_outputs = 256});
  Random random(10);
  const Tokens prompt = random_tokens(random, model, 100);
  const auto a = engine->session(), b = engine->session();
  Sampling nothing = drawn(1);
  nothing.mask.assign(3, 0);
  const auto outputs = engine->step(
      {{.session = a, .tokens = slice(prompt, 0, 70), .rows = {}, .sampling = nothing, .checkpoints = {64, 70}},
       {.session = b, .tokens = slice(prompt, 0, 70), .rows = {}, .sampling = drawn(1)}});
  CHECK(
      !outputs[0].error.empty() && a->length() == 0 && a->tables().full.empty() && engine->checkpoints() == 0,
      "\"%s\", %d tokens", outputs[0].error.c_str(), a->length());
  CHECK(outputs[1].error.empty() && b->length() == 70 && outputs[1].token >= 0, "\"%s\"",
        outputs[1].error.c_str());
  CHECK(same(run(*engine, a, prompt), cold(*engine, prompt)), "other bits after its failure");
}

}  // namespace test
