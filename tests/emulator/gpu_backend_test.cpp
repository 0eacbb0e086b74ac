// The GPU backend of csrc/simt and its kernels, in the emulator, against the CPU device: eager steps, graphs
// that are captured and replayed, and counts that vary within a bucket. CUDA, and HIP with waves of 64 and
// of 32.
#include <algorithm>

#include "../native/tiny_model.h"
#include "core/fault.h"
#include "runtime/stream.h"
#include "simt/gpu_backend.h"

namespace {

using namespace gptoss;
using namespace test;
using simt::GpuBackend;

constexpr EngineLimits kLimits{.max_context = 256, .max_sequences = 4, .max_tokens = 80, .max_outputs = 80};

struct Device {
  std::unique_ptr<Engine> engine;
  GpuBackend* backend;
};

Device open_gpu(const TinyModel& model, bool graphs) {
  BackendOptions options;
  options.precision = Precision::exact;
  options.kv_dtype = KvDType::f32;
  auto backend = std::make_unique<GpuBackend>(options, 0, "emulated", "");
  GpuBackend* const observed = backend.get();
  observed->use_graphs(graphs);
  return {open_engine(model, kLimits, std::move(backend)), observed};
}

void near(const std::vector<float>& got, const std::vector<float>& want, const char* what) {
  float worst = got.size() == want.size() ? 0.0f : 1e30f;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const float difference = std::abs(got[i] - want[i]);
    if (!(difference <= worst)) worst = std::isnan(difference) ? 1e30f : difference;
  }
  CHECK(worst <= 1e-4f, "%s: logits differ by %g", what, worst);
}

void logits_are_those_of_the_cpu(const TinyModel& model) {
  Random random(3);
  const Tokens prompt = random_tokens(random, model, 70);
  const auto cpu = open_engine(model, kLimits);
  const Device gpu = open_gpu(model, true);
  near(cold(*gpu.engine, prompt), cold(*cpu, prompt), "a prompt in one step");
}

// Token by token: the first step runs as it is, the second is captured, all others are replayed.
void replayed_steps_are_eager_steps(const TinyModel& model) {
  Random random(4);
  const Tokens prompt = random_tokens(random, model, 12);
  const Device eager = open_gpu(model, false), replayed = open_gpu(model, true);
  const auto want = cold(*eager.engine, prompt);
  CHECK(same(run(*eager.engine, eager.engine->session(), prompt, 1), want), "other logits token by token");
  CHECK(same(run(*replayed.engine, replayed.engine->session(), prompt, 1), want), "other logits from graphs");
  CHECK(eager.backend->counters().eager == 13 && eager.backend->counters().captured == 0, "graphs where none should be");
  const auto& counters = replayed.backend->counters();
  CHECK(counters.eager == 1 && counters.captured == 1 && counters.replayed == 10, "%d eager, %d captured, %d replayed",
        counters.eager, counters.captured, counters.replayed);
}

// Four sequences make the graph; then three of them, two, and four again go through it: one bucket for 3 and
// 4.
void one_graph_serves_all_counts_of_its_bucket(const TinyModel& model) {
  constexpr int kMembers[] = {4, 4, 3, 4, 3, 2};
  std::vector<std::vector<gptoss::Output>> results[2];
  for (bool graphs : {false, true}) {
    const Device gpu = open_gpu(model, graphs);
    std::vector<std::shared_ptr<Session>> sessions;
    for (int i = 0; i < 4; ++i) sessions.push_back(gpu.engine->session());
    Tokens next{1, 2, 3, 4};
    for (int members : kMembers) {
      std::vector<Work> work;
      for (int i = 0; i < members; ++i)
        work.push_back({.session = sessions[i], .tokens = {next[i]}, .rows = {0}, .sampling = drawn(7 + i)});
      const auto outputs = gpu.engine->step(work);
      for (int i = 0; i < members; ++i) next[i] = outputs[i].token;
      results[graphs].push_back(outputs);
    }
    if (graphs) CHECK(gpu.backend->counters().replayed == 3, "%d replayed", gpu.backend->counters().replayed);
  }
  for (size_t step = 0; step < std::size(kMembers); ++step)
    for (int i = 0; i < kMembers[step]; ++i) {
      const gptoss::Output &want = results[0][step][i], &got = results[1][step][i];
      CHECK(got.token == want.token && same(got.logits, want.logits) && same(got.top_logprobs, want.top_logprobs),
            "step %zu, sequence %d: token %d, wanted %d", step, i, got.token, want.token);
    }
}

// A step is submitted while the one before may still run, and goes on with the draws of that one, wherever they lie in it:
// the sequences sit in other places of each step, and one is left out now and then. Tokens and log probabilities are those
// of steps that were waited for.
void steps_ahead_draw_the_same(const TinyModel& model) {
  const std::vector<std::vector<int>> members{{0, 1}, {1, 0}, {1}, {0, 1}, {1, 0}};
  Sampling sampling = drawn(7);
  sampling.top_p = 1;
  sampling.logprobs = 1;
  std::vector<gptoss::Output> results[2];
  for (bool ahead : {false, true}) {
    const Device gpu = open_gpu(model, true);
    std::vector<std::shared_ptr<Session>> sessions;
    for (int i = 0; i < 2; ++i) sessions.push_back(gpu.engine->session());
    std::vector<Tokens> next{{1, 2, 3}, {4}};
    std::shared_ptr<Engine::Step> step;
    const auto collect = [&](size_t n) {
      const auto outputs = gpu.engine->collect(step);
      for (size_t i = 0; i < outputs.size(); ++i) next[members[n][i]] = {outputs[i].token};
      results[ahead].insert(results[ahead].end(), outputs.begin(), outputs.end());
      step.reset();
    };
    for (size_t n = 0; n < members.size(); ++n) {
      if (step && (!ahead || n == 3)) collect(n - 1);  // of that step's sequences one was not in the one before
      std::vector<Work> work;
      for (int i : members[n])
        work.push_back({.session = sessions[i], .tokens = step ? Tokens{kDrawnBefore} : next[i], .rows = {}, .sampling = sampling});
      const auto behind = gpu.engine->submit(work, step);
      if (step) collect(n - 1);
      step = behind;
    }
    collect(members.size() - 1);
  }
  CHECK(results[0].size() == results[1].size(), "%zu draws, wanted %zu", results[1].size(), results[0].size());
  for (size_t i = 0; i < results[0].size(); ++i) {
    const gptoss::Output &want = results[0][i], &got = results[1][i];
    CHECK(got.token == want.token && got.logprob == want.logprob && got.top_tokens == want.top_tokens &&
              same(got.top_logprobs, want.top_logprobs),
          "draw %zu: token %d, wanted %d", i, got.token, want.token);
  }
}

}  // namespace

int main() {
  const TinyModel model(16);
  const char* text = std::getenv("GPTOSS_EMULATOR_SEEDS");
  const int seeds = text != nullptr ? std::atoi(text) : 2;
  for (int seed = 0; seed < seeds; ++seed) {
    emulator::seed(static_cast<uint64_t>(seed));
    logits_are_those_of_the_cpu(model);
    replayed_steps_are_eager_steps(model);
    one_graph_serves_all_counts_of_its_bucket(model);
    steps_ahead_draw_the_same(model);
  }
  const size_t faults = emulator::take_faults().size();
  CHECK(faults == 0, "%zu faults", faults);
  return test::finish("gpu_backend_test");
}
