// A model on a device, and the step: what several sequences do together, as one transaction.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "backend.h"
#include "model.h"
#include "pages.h"
#include "prefix_cache.h"
#include "session.h"

namespace gptoss {

// Tokens that may have a bias without standing in the sequence.
inline constexpr int kMaxBiases = 1024;

// How the next token of a sequence is drawn; see sampling.h.
struct Sampling {
  float temperature = 0;
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  uint64_t seed = 0;
  uint32_t index = 0;
  int32_t logprobs = -1;
  std::vector<TokenEdit> edits;  // tokens with a penalty or a bias
  std::vector<uint32_t> mask;    // (ceil(vocab_size / 32)) allowed tokens; empty: all
};

// Appends the draw from one row of logits to what a device is told.
void add_draw(const Sampling& sampling, int32_t row, size_t mask_words, std::vector<SampleParams>& params,
              std::vector<TokenEdit>& edits, std::vector<uint32_t>& masks);

// In place of a token: what the step before draws for the same session.
inline constexpr int32_t kDrawnBefore = drawn_before(0);

// What one session adds to a step: `tokens` follow its cached ones.
struct Work {
  std::shared_ptr<Session> session;
  std::vector<int32_t> tokens;
  std::vector<int32_t> rows;         // of `tokens`, whose logits are wanted
  std::optional<Sampling> sampling;  // draw the token after the last one
  std::vector<int32_t> checkpoints = {};  // after so many of `tokens`: places to be remembered, to resume others from
};

struct Output {
  int32_t token = -1;
  std::string error;          // why this sequence alone failed; its session is as it was
  std::vector<float> logits;  // (rows, vocab_size)
  float logprob = 0;          // of the drawn token
  std::vector<int32_t> top_tokens;
  std::vector<float> top_logprobs;
};

struct EngineLimits {
  int max_context = 0;
  int max_sequences = 1;
  int64_t max_total_tokens = 0;  // of all sequences together in the full-attention layers; 0: all whole contexts
  int max_tokens = 512;
  int max_outputs = 64;
  int max_checkpoints = 32;  // there is room for so many places to resume from; more are kept while there are pages
  int max_observed = 0;      // tokens of one step whose inner values can be observed
};

class Engine {
 public:
  Engine(const Config& config, const EngineLimits& limits, std::unique_ptr<Backend> backend);
  ~Engine();

  // Weights first, layer by layer; then start() allocates, once and for all: afterwards these refuse.
  void load(const HostLayer& layer);
  void load(const HostEnds& ends);
  void start();

  // A new sequence that resumes at the latest checkpoint within `tokens`, at most at the last of them, which is left
  // to be computed; its length() says where.
  std::shared_ptr<Session> session(std::span<const int32_t> tokens = {});
  // The latest checkpoint within `tokens`, their end included, is not the least recently used one now.
  void touch(std::span<const int32_t> tokens);
  void checkpoint(const Session& session);
  // Runs all of `work` or, if it throws, none of it. One thread at a time; others wait. `observe`: fields to be kept
  // in every layer; each comes back in place, as (layers, tokens, ...).
  struct FieldData {
    Field field;
    std::vector<uint8_t> bytes;
  };
  std::vector<Output> step(const std::vector<Work>& work, const InterruptPoll& poll = nullptr,
                           std::vector<FieldData>* observe = nullptr);

  // The same in two halves: submit() begins the step, collect() waits for it and says what came of it; without that, it
  // is given up with the last reference to it.
  //
  // One step ahead, on a device that runs_ahead(): `after` is the latest step, not collected yet, and asked for no rows;
  // null where another step came in between. A session of it that drew goes on with the one token kDrawnBefore. Of the cache's pages there must be enough that
  // are free: no checkpoint goes for a step that nobody may want. The two are collected in their order. If collecting
  // the first throws, the second is given up with it; a sequence that failed alone in the first is left out of the
  // second, and so is what `dropped` names (of the step's work, none if it is empty): it is computed, and then given
  // up as if it had not been, its pages not before the step has ended. A session that is left out must not be used until
  // that step is collected.
  class Step;
  std::shared_ptr<Step> submit(std::vector<Work> work, const std::shared_ptr<Step>& after = nullptr,
                               const InterruptPoll& poll = nullptr);
  std::vector<Output> collect(const std::shared_ptr<Step>& step, const std::vector<bool>& dropped = {},
                              const InterruptPoll& poll = nullptr);
  bool runs_ahead() const { return backend_->runs_ahead(); }

  // For tests and benches: prepares the step of `work`, writes `fields`, runs the named stages on one layer,
  // and reads. Nothing is committed. Throws std::invalid_argument for a name that is none.
  void run_stages(const std::vector<std::string>& stages, int layer, const std::vector<Work>& work,
                  const std::vector<FieldData>& write, std::vector<FieldData>& read);

  // Tokens of one sequence that may have a penalty, which those in it have, or a bias.
  int max_edits() const { return std::min(model_.config.vocab_size, limits_.max_context + kMaxBiases); }

  const Config& config() const { return model_.config; }
  const EngineLimits& limits() const { return limits_; }
  DeviceFacts facts() const { return backend_->facts(); }
  StateBytes bytes() const { return backend_->plan(model_.config, state_limits_); }
  int free_pages() const { return pool_ ? pool_->free_pages() : 0; }
  int pages() const { return state_limits_.pages; }
  int64_t full_pages() const { return full_pages_; }  // of them, for max_total_tokens
  int checkpoints() const { return prefixes_.size(); }
  // Forgets a session's tokens from `length` on; see Session::truncate.
  int truncate(Session& session, int length, const InterruptPoll& poll = nullptr);

 private:
  struct Inputs;
  class Turn;
  void refuse_if_started() const;
  void check(const Sampling& sampling) const;
  void check(const std::vector<Work>& work, const Step* after) const;
  Inputs prepare(const Step& step) const;
  void write(const Inputs& inputs);
  void run(const Batch& batch, const std::function<void()>& enqueue);
  std::shared_ptr<Step> begin(std::vector<Work> work, const std::shared_ptr<Step>& after, const InterruptPoll& poll,
                              const std::vector<FieldData>* observe);
  void finish(Step& step, const InterruptPoll& poll);
  void read_results(Step& step);
  std::vector<Output> end(Step& step);
  void give_up(const std::shared_ptr<Step>& step);

  std::unique_ptr<Backend> backend_;  // first: what it made goes before it
  Model model_;
  EngineLimits limits_;
  Limits state_limits_;
  std::unique_ptr<State> state_;
  std::shared_ptr<PagePool> pool_;
  PrefixCache prefixes_;
  int64_t full_pages_ = 0;
  std::deque<std::shared_ptr<Step>> under_way_;  // submitted, and their results not read; the oldest first
  std::mutex mutex_;  // of the two below
  std::condition_variable turn_ended_;
  std::list<std::thread::id> turns_;  // who works on the engine, and who waits, in order of arrival
};

}  // namespace gptoss
