// What the contract must allow, shown with devices made of the CPU device: experts elsewhere, observation and
// intervention, a failure at any call, and taking back draft tokens. forward() and the engine are untouched by all of it.
#include <vector>

#include "check.h"
#include "failure_cases.h"
#include "growth_devices.h"
#include "observed.h"
#include "tiny_model.h"

namespace {

using namespace gptoss;
using namespace test;

// ---- experts on another device -----------------------------------------------------------------------------

void experts_on_another_device_give_the_same_bits() {
  const TinyModel model(16);
  const EngineLimits limits{
      .max_context = 512, .max_sequences = 2, .max_tokens = 256, .max_outputs = 256, .max_observed = 256};
  const auto one = open_engine(model, limits);
  const auto two = open_engine(model, limits, std::make_unique<TwoDevices>(cpu_device(1), cpu_device(2)));
  CHECK(two->facts().name == "two devices", "%s", two->facts().name.c_str());
  CHECK(two->bytes().kv == one->bytes().kv && two->bytes().activations > one->bytes().activations,
        "%zu bytes of activations", two->bytes().activations);

  Random random(5);
  const Tokens prompt = random_tokens(random, model, 150);
  for (int chunk : {1000, 64, 7}) {
    const auto session = two->session();
    CHECK(same(run(*two, session, prompt, chunk), cold(*one, prompt)), "other logits, in steps of %d", chunk);
  }
  const auto both = [&](Engine& engine, Observed& observed) {
    const auto a = engine.session(), b = engine.session();
    run(engine, a, slice(prompt, 0, 100));
    return engine.step(
        {{.session = a, .tokens = slice(prompt, 100, 101), .rows = {}, .sampling = drawn(3)},
         {.session = b, .tokens = slice(prompt, 30, 90), .rows = {0, 59}, .sampling = drawn(4)}},
        nullptr, &observed);
  };
  Observed from_one = everything(model.config, 61), from_two = everything(model.config, 61);
  const auto want = both(*one, from_one), got = both(*two, from_two);
  for (size_t i = 0; i < want.size(); ++i)
    CHECK(got[i].token == want[i].token && same(got[i].logits, want[i].logits) &&
              same(got[i].top_logprobs, want[i].top_logprobs),
          "sequence %zu of a batch: token %d, wanted %d", i, got[i].token, want[i].token);
  for (size_t i = 0; i < from_one.size(); ++i)
    CHECK(from_one[i].bytes == from_two[i].bytes, "observed field %zu differs", i);
}

// ---- observation -------------------------------------------------------------------------------------------

// Each layer alone, fed with the residual that was observed before it, makes what was observed in it.
void observed_values_are_those_of_single_stages() {
  const TinyModel model(65);
  const Config& c = model.config;
  const auto engine = open_engine(
      model,
      {.max_context = 512, .max_sequences = 2, .max_tokens = 256, .max_outputs = 256, .max_observed = 90});
  Random random(6);
  const Tokens first = random_tokens(random, model, 130), second = random_tokens(random, model, 90);
  const auto a = engine->session(), b = engine->session(), c1 = engine->session(), c2 = engine->session();
  run(*engine, a, first);
  run(*engine, c1, first);
  const auto work = [&](const auto& one, const auto& other) {
    return std::vector<Work>{
        {.session = one, .tokens = slice(second, 0, 20), .rows = up_to(20), .sampling = {}},
        {.session = other, .tokens = slice(second, 20, 90), .rows = up_to(70), .sampling = drawn(1)}};
  };

  Observed seen = everything(c, 90);
  const auto outputs = engine->step(work(c1, c2), nullptr, &seen);
  for (int layer = 0; layer < c.num_hidden_layers; ++layer) {
    Observed before, made;
    if (layer > 0)
      before.push_back({Field::residual, of_layer(seen, Field::residual, layer - 1, c.num_hidden_layers)});
    for (Field field : kObservable) made.push_back({field, std::vector<uint8_t>(90 * token_bytes(c, field))});
    engine->run_stages({"attn_qkv", "attn", "attn_out", "moe_route", "moe_up", "moe_down"}, layer, work(a, b),
                       before, made);
    for (const auto& data : made)
      CHECK(data.bytes == of_layer(seen, data.field, layer, c.num_hidden_layers),
            "layer %d: field %d is not what the stage makes", layer, static_cast<int>(data.field));
  }

  const auto plain = engine->step(work(a, b));
  for (size_t i = 0; i < plain.size(); ++i)
    CHECK(same(plain[i].logits, outputs[i].logits) && plain[i].token == outputs[i].token,
          "observing changed sequence %zu", i);

  Observed too_many = everything(c, 91);
  const int length = a->length();
  bool refused = false;
  try {
    engine->step({{.session = a, .tokens = random_tokens(random, model, 91), .rows = {}, .sampling = {}}},
                 nullptr, &too_many);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused && a->length() == length, "more tokens were observed than there is room for");
}

void a_residual_can_be_overwritten_between_stages() {
  const TinyModel model(16);
  const size_t hidden = model.config.hidden_size;
  auto owned = std::make_unique<WatchedDevice>(cpu_device());
  WatchedDevice& device = *owned;
  const auto engine =
      open_engine(model, {.max_context = 256, .max_tokens = 128, .max_outputs = 128, .max_observed = 128},
                  std::move(owned));
  Random random(7);
  const Tokens ours = random_tokens(random, model, 100), other = random_tokens(random, model, 100);
  const auto plain = cold(*engine, ours), target = cold(*engine, other);

  for (int layer = 0; layer < model.config.num_hidden_layers; ++layer) {
    Observed seen{{Field::residual,
                   std::vector<uint8_t>(model.config.num_hidden_layers * 100 * hidden * sizeof(float))}};
    engine->step({{.session = engine->session(), .tokens = other, .rows = {}, .sampling = {}}}, nullptr,
                 &seen);
    const auto residual = of_layer(seen, Field::residual, layer, model.config.num_hidden_layers);
    size_t bytes = residual.size();
    device.change_residual = [&](Backend& inner, State& s, int l, const Batch&) {
      if (l == layer) inner.write(s, Field::residual, residual.data(), bytes);
    };
    CHECK(same(cold(*engine, ours), target),
          "the other prompt's residual after layer %d does not give its logits", layer);
    bytes = hidden * sizeof(float);  // of the first token only
    const auto mixed = cold(*engine, ours);
    CHECK(!same(mixed, plain) && !same(mixed, target),
          "one token's residual after layer %d is nobody's business", layer);
    CHECK(same(rows_of(mixed, model, 0, 1), rows_of(target, model, 0, 1)), "layer %d: the token itself",
          layer);
    device.change_residual = nullptr;
  }
  CHECK(same(cold(*engine, ours), plain), "an intervention outlived its step");
}

// ---- rollback ----------------------------------------------------------------------------------------------

// k draft tokens are computed at once, j of them are accepted, the rest taken back, and other tokens follow.
void draft_tokens_are_taken_back(int window) {
  const TinyModel model(window);
  const auto engine = open_engine(
      model,
      {.max_context = 512, .max_sequences = 1, .max_tokens = 512, .max_outputs = 512, .max_checkpoints = 0});
  Random random(11 + window);
  const Tokens truth = random_tokens(random, model, 420);
  const auto want = cold(*engine, truth);
  for (int k : {1, 2, 3, 8, 31, 63, 64}) {
    const auto session = engine->session();
    int at = 0, turn = 0;
    for (; at + k <= 400; ++turn) {
      const int accepted = turn % 3 == 0 ? 0 : random.below(k + 1);
      Tokens draft = random_tokens(random, model, k);
      std::copy_n(truth.begin() + at, accepted, draft.begin());
      const auto logits = run(*engine, session, draft);
      CHECK(same({logits.begin(), logits.begin() + accepted * model.config.vocab_size},
                 rows_of(want, model, at, at + accepted)),
            "window %d, %d drafts at %d: other logits of those accepted", window, k, at);
      at += accepted;
      const int got = engine->truncate(*session, at);
      CHECK(got == at, "window %d: %d drafts taken back leave %d tokens, wanted %d", window, k, got, at);
      const auto next = run(*engine, session, slice(truth, at, at + 1));
      CHECK(same(next, rows_of(want, model, at, at + 1)),
            "window %d, %d drafts at %d: other logits of the next", window, k, at);
      ++at;
    }
  }
}

}  // namespace

int main() {
  experts_on_another_device_give_the_same_bits();
  observed_values_are_those_of_single_stages();
  a_residual_can_be_overwritten_between_stages();
  for (bool afterwards : {false, true})
    a_step_that_failed_left_no_trace(afterwards, false, [] { throw Broken("by order"); });
  a_step_that_failed_left_no_trace(false, true, [] { throw Broken("by order"); });
  a_step_that_failed_left_no_trace(true, false, [] { throw Interrupted(); });
  no_room_for_the_second_sequence();
  one_sequence_fails_alone();
  for (int window : {1, 16, 64, 128}) draft_tokens_are_taken_back(window);
  return test::finish("growth_test");
}
