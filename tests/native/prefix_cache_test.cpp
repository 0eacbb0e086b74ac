// Snapshots, shared pages and their copies, and the cache that keeps them: under random operations against a plain
// model, then with a real model against cold runs.
#include "prefix_cache.h"

#include <algorithm>
#include <vector>

#include "book.h"
#include "check.h"
#include "shared_pages_cases.h"
#include "tiny_model.h"

namespace {

using namespace gptoss;
using namespace test;

void a_cache_without_room_remembers_nothing() {
  Config config;
  config.layer_types = {LayerType::full_attention};
  config.num_hidden_layers = config.sliding_window = 1;
  const auto pool = std::make_shared<PagePool>(2);
  PrefixCache cache(0);
  Session session(pool, config);
  session.reserve(Tokens{1, 2});
  session.commit();
  cache.add(session.snapshot());
  CHECK(cache.size() == 0 && !cache.find(Tokens{1, 2, 3}, 3) && !cache.evict(), "%d checkpoints", cache.size());
}

void resumed_and_rewound_sequences_give_the_bits_of_cold_ones(int window, int operations) {
  const Book book(window, 5, 400, 100 + window);
  Random random(window);
  const auto engine = open_engine(
      book.model,
      {.max_context = 400, .max_sequences = 2, .max_tokens = 130, .max_outputs = 130, .max_checkpoints = 8});
  struct Open {
    std::shared_ptr<Session> session;
    int branch = 0;
    int kept_from = 0;  // where it resumed, or the reserve before the furthest it has been
  };
  std::vector<Open> open(2);
  for (Open& o : open) o.session = engine->session();
  int reused = 0;
  for (int i = 0; i < operations; ++i) {
    Open& o = open[random.below(2)];
    const int at = o.session->length(), kind = random.below(10);
    if (kind < 6 && at < book.length) {
      const int last =
          std::min(book.length, at + (random.below(2) ? 1 + random.below(3) : 1 + random.below(130)));
      const bool drawn = random.below(2);
      const auto output = engine->step(
          {{.session = o.session,
            .tokens = slice(book.branches[o.branch].tokens, at, last),
            .rows = up_to(last - at),
            .sampling = drawn && last - at < 130 ? std::optional(book.sampling(last - 1)) : std::nullopt,
            .checkpoints = random.below(3) ? Tokens() : Tokens{1 + random.below(last - at), last - at}}})[0];
      o.kept_from = std::max(o.kept_from, last - kRollbackReserve);
      CHECK(book.right(output, o.branch, at, last, true, drawn && last - at < 130),
            "window %d: branch %d, tokens %d to %d", window, o.branch, at, last);
    } else if (kind < 8) {  // back, and on along any branch that agrees so far
      const int to = random.below(2) ? std::max(0, at - random.below(65)) : random.below(at + 1);
      const int left = engine->truncate(*o.session, to), other = random.below(5);
      CHECK(left == to || (left == 0 && to < o.kept_from), "window %d: %d cut back to %d gave %d", window, at,
            to, left);
      if (left == 0) o.kept_from = 0;
      if (book.shared(o.branch, other) >= left) o.branch = other;
    } else {
      o.branch = random.below(5);
      o.session = nullptr;
      o.session = engine->session(slice(book.branches[o.branch].tokens, 0, 1 + random.below(book.length)));
      o.kept_from = o.session->length();
      reused += o.kept_from;
    }
  }
  CHECK(reused > 0, "window %d: nothing was reused", window);
  open.clear();
}

// The usual turn: the reasoning before an answer is dropped, further back than a window and its reserve. What is
// computed again is only what is new since the checkpoint.
void a_turn_that_drops_reasoning_resumes_at_its_checkpoint() {
  const TinyModel model(128);
  const auto engine = open_engine(
      model,
      {.max_context = 1200, .max_sequences = 1, .max_tokens = 1200, .max_outputs = 8, .max_checkpoints = 4});
  Random random(3);
  const Tokens tools = random_tokens(random, model, 300), question = random_tokens(random, model, 77),
               reasoning = random_tokens(random, model, 401), answer = random_tokens(random, model, 20),
               next = random_tokens(random, model, 33);
  const auto step = [&](const std::shared_ptr<Session>& session, const Tokens& tokens, const Tokens& checkpoints) {
    return engine
        ->step({{.session = session,
                 .tokens = tokens,
                 .rows = {static_cast<int32_t>(tokens.size()) - 1},
                 .sampling = {},
                 .checkpoints = checkpoints}})[0]
        .logits;
  };
  const Tokens second = joined(joined(joined(tools, question), answer), next);
  const auto want = step(engine->session(), second, {});
  {
    const auto turn = engine->session(joined(tools, question));
    step(turn, joined(tools, question), {300, 377});  // both in one step
    step(turn, joined(reasoning, answer), {421});
  }
  auto turn = engine->session(second);
  CHECK(turn->length() == 377, "resumed at %d", turn->length());
  CHECK(same(step(turn, slice(second, 377, static_cast<int>(second.size())), {}), want),
        "other bits than a cold run");
  turn = engine->session(joined(tools, next));  // another conversation with the same tools
  CHECK(turn->length() == 300, "resumed at %d", turn->length());
  turn = engine->session(tools);  // the last token is left to be computed
  CHECK(turn->length() == 299, "resumed at %d", turn->length());
}

void checkpoints_go_when_running_sequences_need_their_pages() {
  const TinyModel model(64);
  const auto engine = open_engine(
      model,
      {.max_context = 640, .max_sequences = 2, .max_tokens = 640, .max_outputs = 8, .max_checkpoints = 3});
  Random random(4);
  const Tokens prompts[3] = {random_tokens(random, model, 600), random_tokens(random, model, 600),
                             random_tokens(random, model, 600)};
  const auto begin = [&](const Tokens& tokens, const Tokens& checkpoints) {
    auto session = engine->session();
    engine->step(
        {{.session = session, .tokens = tokens, .rows = {}, .sampling = {}, .checkpoints = checkpoints}});
    return session;
  };
  for (const Tokens& prompt : prompts)
    begin(prompt, {600});  // closed at once: only the checkpoints hold their pages
  CHECK(engine->checkpoints() == 3, "%d checkpoints", engine->checkpoints());
  CHECK(engine->session(joined(prompts[0], {1}))->length() == 600,
        "not resumed");  // the first is used: 1 is the oldest now
  auto running = begin(random_tokens(random, model, 600), {});
  auto second = begin(random_tokens(random, model, 600), {});
  CHECK(engine->checkpoints() < 3, "two whole sequences beside three checkpoints of 600 tokens");
  CHECK(engine->session(joined(prompts[1], {1}))->length() == 0,
        "the least recently used checkpoint was kept");
  second = nullptr;
  running = nullptr;
  CHECK(engine->free_pages() < engine->pages() || engine->checkpoints() == 0, "%d checkpoints without pages",
        engine->checkpoints());
}

// The number of places is not what limits them: pages are.
void a_long_conversation_is_remembered_beside_many_short_ones() {
  const TinyModel model(64);
  const auto engine = open_engine(
      model,
      {.max_context = 2048, .max_sequences = 2, .max_tokens = 512, .max_outputs = 8, .max_checkpoints = 1});
  Random random(5);
  const Tokens conversation = random_tokens(random, model, 1000);
  const auto remember = [&](const Tokens& tokens) {
    const auto session = engine->session(tokens);
    for (int at = session->length(), n = static_cast<int>(tokens.size()); at < n; at = session->length())
      engine->step({{.session = session, .tokens = slice(tokens, at, std::min(n, at + 512)), .rows = {}, .sampling = {}}});
    engine->checkpoint(*session);
  };
  remember(conversation);
  for (int i = 0; i < 10; ++i) remember(random_tokens(random, model, 40));
  CHECK(engine->checkpoints() == 11, "%d checkpoints", engine->checkpoints());
  CHECK(engine->session(joined(conversation, {1}))->length() == 1000, "the long conversation was forgotten");
}

// A repeated prompt resumes at its last token, wherever its window begins.
void a_whole_prompt_resumes_at_its_last_token() {
  const TinyModel model(16);
  const auto engine = open_engine(
      model,
      {.max_context = 512, .max_sequences = 1, .max_tokens = 512, .max_outputs = 8, .max_checkpoints = 4});
  Random random(6);
  for (int length = 70; length < 70 + 2 * kPageTokens; ++length) {
    const Tokens prompt = random_tokens(random, model, length);
    engine->step({{.session = engine->session(), .tokens = prompt, .rows = {}, .sampling = {}, .checkpoints = {length}}});
    CHECK(engine->session(prompt)->length() == length - 1, "%d tokens: the window of the last one is gone", length);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int times = argc > 1 ? std::atoi(argv[1]) : 1;
  random_lives(3000 * times);
  a_cache_without_room_remembers_nothing();
  for (int window : {1, 63, 64, 65, 128})
    resumed_and_rewound_sequences_give_the_bits_of_cold_ones(window, 400 * times);
  a_turn_that_drops_reasoning_resumes_at_its_checkpoint();
  checkpoints_go_when_running_sequences_need_their_pages();
  a_long_conversation_is_remembered_beside_many_short_ones();
  a_whole_prompt_resumes_at_its_last_token();
  return test::finish("prefix_cache_test");
}
