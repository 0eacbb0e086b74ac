#include "engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <stdexcept>

#include "forward.h"
#include "recording.h"

namespace gptoss {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

}  // namespace

// The fields of a step, as the device wants them.
struct Engine::Inputs {
  Batch batch;
  std::vector<int32_t> token, position, sequence, full_pages, window_pages, row;
  std::vector<SampleParams> sampling;
  std::vector<TokenEdit> edit;
  std::vector<uint32_t> mask;
};

// Room in every session of a step, given back unless that session's part was committed. Where the pool has none,
// checkpoints go first.
class Engine::Transaction {
 public:
  Transaction(Engine& engine, const std::vector<Work>& work) : work_(work), open_(work.size(), false) {
    try {
      for (size_t i = 0; i < work.size(); ++i) {
        reserve(engine, work[i]);
        open_[i] = true;
        for (const auto& copy : work[i].session->copies()) engine.backend_->copy_page(*engine.state_, copy.from, copy.to);
        work[i].session->copied();
      }
    } catch (...) {
      rollback();
      throw;
    }
  }
  ~Transaction() { rollback(); }
  std::vector<std::shared_ptr<const Snapshot>> commit(size_t i) {
    std::vector<int> places;
    for (int32_t tokens : work_[i].checkpoints) places.push_back(work_[i].session->length() + tokens);
    open_[i] = false;
    return work_[i].session->commit(places);
  }

 private:
  static void reserve(Engine& engine, const Work& w) {
    for (;;) {
      try {
        return w.session->reserve(w.tokens);
      } catch (const OutOfPages& error) {
        if (engine.prefixes_.evict()) continue;
        throw OutOfPages(std::string(error.what()) + ", and " + std::to_string(w.tokens.size()) +
                         " tokens more of a sequence of " + std::to_string(w.session->length()) + " do not fit; " +
                         std::to_string(w.session->room(engine.free_pages())) + " would");
      }
    }
  }
  void rollback() {
    for (size_t i = 0; i < open_.size(); ++i)
      if (open_[i]) work_[i].session->rollback();
  }
  const std::vector<Work>& work_;
  std::vector<bool> open_;
};

// One thread at a time works on the engine; the others wait here, are served in the order in which they came, and may
// be interrupted while they wait.
class Engine::Turn {
 public:
  explicit Turn(Engine& engine, const InterruptPoll& poll = nullptr) : engine_(engine) {
    const auto mine = [this] { return place_ == engine_.turns_.begin(); };
    std::unique_lock lock(engine.mutex_);
    if (!engine.turns_.empty() && engine.turns_.front() == std::this_thread::get_id())
      throw std::logic_error("the engine was called from inside one of its own steps");
    place_ = engine.turns_.insert(engine.turns_.end(), std::this_thread::get_id());
    while (!engine.turn_ended_.wait_for(lock, std::chrono::milliseconds(50), mine)) {
      lock.unlock();
      try {
        if (poll && poll()) throw Interrupted();
      } catch (...) {
        leave();
        throw;
      }
      lock.lock();
    }
  }
  ~Turn() { leave(); }

 private:
  void leave() {
    {
      std::lock_guard lock(engine_.mutex_);
      engine_.turns_.erase(place_);
    }
    engine_.turn_ended_.notify_all();
  }
  Engine& engine_;
  std::list<std::thread::id>::iterator place_;
};

Engine::Engine(const Config& config, const EngineLimits& limits, std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)), limits_(limits) {
  validate(config);
  const auto positive = [](const char* name, int value) {
    if (value < 1) refuse(std::string(name) + " must be at least 1, found " + std::to_string(value));
  };
  positive("max_context", limits.max_context);
  const auto at_least_0 = [](const char* name, int value) {
    if (value < 0) refuse(std::string(name) + " must be at least 0, found " + std::to_string(value));
  };
  at_least_0("max_checkpoints", limits.max_checkpoints);
  at_least_0("max_observed", limits.max_observed);
  if (limits.max_context > 1 << 30) refuse("max_context must be at most 2^30, found " + std::to_string(limits.max_context));
  positive("max_sequences", limits.max_sequences);
  positive("max_tokens", limits.max_tokens);
  positive("max_outputs", limits.max_outputs);
  if (limits.max_context > config.max_position_embeddings)
    refuse("max_context " + std::to_string(limits.max_context) + " exceeds the model's max_position_embeddings " +
           std::to_string(config.max_position_embeddings));
  model_.config = config;
  model_.layers.resize(static_cast<size_t>(config.num_hidden_layers));
  limits_.max_tokens = std::max(limits.max_tokens, limits.max_sequences);
  state_limits_ = {.max_context = limits.max_context,
                   .max_sequences = limits.max_sequences,
                   .max_tokens = limits_.max_tokens,
                   .max_outputs = std::max(limits.max_outputs, limits.max_sequences),
                   .max_edits = 0,
                   .max_kept = limits.max_observed,
                   .pages = 0};
  const int64_t edits = int64_t{limits.max_sequences} * max_edits();
  state_limits_.max_edits = static_cast<int>(std::min<int64_t>(edits, std::numeric_limits<int32_t>::max()));
  const int64_t whole_contexts = int64_t{limits.max_sequences} * gptoss::full_pages(config, limits.max_context);
  if (limits.max_total_tokens != 0 && limits.max_total_tokens < limits.max_context)
    refuse("max_total_tokens must be at least max_context, " + std::to_string(limits.max_context) + ", found " +
           std::to_string(limits.max_total_tokens));
  full_pages_ = limits.max_total_tokens == 0
                    ? whole_contexts
                    : std::min(whole_contexts, gptoss::full_pages(config, limits.max_total_tokens));
  // A sequence that is alone and goes on behind its own checkpoint copies its last page of each kind.
  const int64_t copies = limits.max_checkpoints ? (config.layers_of(LayerType::full_attention) > 0) +
                                                      (config.layers_of(LayerType::sliding_attention) > 0)
                                                : 0;
  const int64_t pages =
      full_pages_ + limits.max_sequences * window_pages(config, limits.max_context, limits_.max_tokens) +
      std::max(copies, limits.max_checkpoints * pages_per_snapshot(config, limits.max_context));
  if (pages > std::numeric_limits<int32_t>::max())
    refuse("max_context " + std::to_string(limits.max_context) + " for " + std::to_string(limits.max_sequences) +
           " sequences needs more KV pages than can be numbered");
  state_limits_.pages = static_cast<int>(pages);
  prefixes_ = PrefixCache(limits.max_checkpoints ? state_limits_.pages : 0);  // hardly two of them share all pages
  limits_.max_outputs = state_limits_.max_outputs;
  bytes_ = backend_->plan(config, state_limits_);
}

void Engine::load(const HostLayer& host) {
  const Turn turn(*this);
  refuse_if_started();
  if (host.index < 0 || host.index >= model_.config.num_hidden_layers)
    refuse("layer " + std::to_string(host.index) + ": the model has " + std::to_string(model_.config.num_hidden_layers));
  validate(model_.config, host);
  auto layer = backend_->load(model_.config, host);
  layer->index = host.index;
  layer->type = model_.config.layer_types[host.index];
  layer->cache_index = static_cast<int>(
      std::count(model_.config.layer_types.begin(), model_.config.layer_types.begin() + host.index, layer->type));
  model_.layers[host.index] = std::move(layer);
}

void Engine::load(const HostEnds& ends) {
  const Turn turn(*this);
  refuse_if_started();
  validate(model_.config, ends);
  model_.ends = backend_->load(model_.config, ends);
}

void Engine::start() {
  const Turn turn(*this);
  refuse_if_started();
  for (size_t i = 0; i < model_.layers.size(); ++i)
    if (!model_.layers[i]) refuse("layer " + std::to_string(i) + " was not loaded");
  if (!model_.ends) refuse("the embedding and the head were not loaded");
  state_ = backend_->state(model_.config, state_limits_);
  pool_ = std::make_shared<PagePool>(state_limits_.pages);
}

void Engine::refuse_if_started() const {
  if (state_) refuse("the engine was already started");
}

int Engine::truncate(Session& session, int length, const InterruptPoll& poll) {
  const Turn turn(*this, poll);
  return session.truncate(length);
}

std::shared_ptr<Session> Engine::session(std::span<const int32_t> tokens) {
  const Turn turn(*this);
  if (!pool_) refuse("the engine was not started");
  const int last = std::max(0, static_cast<int>(tokens.size()) - 1);
  auto session = std::make_shared<Session>(pool_, model_.config, prefixes_.find(tokens, last + 1).get());
  if (session->length() <= last || session->truncate(last) == last) return session;
  // What the last token sees is gone already: from an earlier place.
  return std::make_shared<Session>(pool_, model_.config, prefixes_.find(tokens, last).get());
}

void Engine::touch(std::span<const int32_t> tokens) {
  const Turn turn(*this);
  prefixes_.find(tokens, std::ssize(tokens));
}

void Engine::checkpoint(const Session& session) {
  const Turn turn(*this);
  prefixes_.add(session.snapshot());
}

void Engine::check(const Sampling& p) const {
  const size_t mask_words = (static_cast<size_t>(model_.config.vocab_size) + 31) / 32;
  if (!p.mask.empty() && p.mask.size() != mask_words)
    refuse("a mask has " + std::to_string(mask_words) + " words, found " + std::to_string(p.mask.size()));
  if (p.edits.size() > static_cast<size_t>(max_edits()))
    refuse("at most " + std::to_string(max_edits()) + " tokens may have a penalty or a bias, found " +
           std::to_string(p.edits.size()));
  for (const TokenEdit& edit : p.edits)
    if (edit.token < 0 || edit.token >= model_.config.vocab_size)
      refuse("token ids are 0 to " + std::to_string(model_.config.vocab_size - 1) + ", found " + std::to_string(edit.token));
}

void Engine::check(const std::vector<Work>& work) const {
  if (!state_) refuse("the engine was not started");
  if (static_cast<int>(work.size()) > limits_.max_sequences)
    refuse("a step holds " + std::to_string(limits_.max_sequences) + " sequences, found " + std::to_string(work.size()));
  size_t tokens = 0, rows = 0;
  for (size_t i = 0; i < work.size(); ++i) {
    const Work& w = work[i];
    for (size_t j = 0; j < i; ++j)
      if (work[j].session == w.session) refuse("a session appears twice in one step");
    if (w.tokens.empty()) refuse("expected at least one token for each session of a step");
    for (int32_t token : w.tokens)
      if (token < 0 || token >= model_.config.vocab_size)
        refuse("token ids are 0 to " + std::to_string(model_.config.vocab_size - 1) + ", found " + std::to_string(token));
    for (int32_t row : w.rows)
      if (row < 0 || row >= static_cast<int32_t>(w.tokens.size()))
        refuse("rows are 0 to " + std::to_string(w.tokens.size() - 1) + ", found " + std::to_string(row));
    for (int32_t place : w.checkpoints)
      if (place < 1 || place > static_cast<int32_t>(w.tokens.size()))
        refuse("checkpoints are 1 to " + std::to_string(w.tokens.size()) + ", found " + std::to_string(place));
    if (w.sampling) check(*w.sampling);
    const size_t length = w.session->length() + w.tokens.size();
    if (length > static_cast<size_t>(limits_.max_context))
      refuse("the sequence would have " + std::to_string(length) + " tokens, max_context is " +
             std::to_string(limits_.max_context));
    tokens += w.tokens.size();
    rows += w.rows.size() + (w.sampling ? 1 : 0);
  }
  if (tokens > static_cast<size_t>(limits_.max_tokens))
    refuse("a step holds " + std::to_string(limits_.max_tokens) + " tokens, found " + std::to_string(tokens));
  if (rows > static_cast<size_t>(limits_.max_outputs))
    refuse("a step gives " + std::to_string(limits_.max_outputs) + " rows of logits, asked for " + std::to_string(rows));
}

void add_draw(const Sampling& p, int32_t row, size_t mask_words, std::vector<SampleParams>& params,
              std::vector<TokenEdit>& edits, std::vector<uint32_t>& masks) {
  const int32_t first_edit = static_cast<int32_t>(edits.size());
  edits.insert(edits.end(), p.edits.begin(), p.edits.end());
  const int32_t mask = p.mask.empty() ? -1 : static_cast<int32_t>(masks.size() / mask_words);
  masks.insert(masks.end(), p.mask.begin(), p.mask.end());
  params.push_back({.row = row,
                    .temperature = p.temperature,
                    .top_p = p.top_p,
                    .min_p = p.min_p,
                    .top_k = p.top_k,
                    .repetition_penalty = p.repetition_penalty,
                    .presence_penalty = p.presence_penalty,
                    .frequency_penalty = p.frequency_penalty,
                    .seed = {static_cast<uint32_t>(p.seed), static_cast<uint32_t>(p.seed >> 32)},
                    .index = p.index,
                    .first_edit = first_edit,
                    .last_edit = static_cast<int32_t>(edits.size()),
                    .mask = mask,
                    .logprobs = p.logprobs});
}

Engine::Inputs Engine::prepare(const std::vector<Work>& work) const {
  Inputs in;
  const size_t table = state_limits_.table_pages();
  in.full_pages.assign(work.size() * table, -1);
  in.window_pages.assign(work.size() * table, -1);
  for (size_t i = 0; i < work.size(); ++i) {
    const Work& w = work[i];
    const int32_t first = static_cast<int32_t>(in.token.size());
    for (size_t j = 0; j < w.tokens.size(); ++j) {
      in.token.push_back(w.tokens[j]);
      in.position.push_back(w.session->length() + static_cast<int32_t>(j));
      in.sequence.push_back(static_cast<int32_t>(i));
    }
    for (int32_t row : w.rows) in.row.push_back(first + row);
    if (w.sampling) {
      in.row.push_back(static_cast<int32_t>(in.token.size()) - 1);
      const size_t mask_words = (static_cast<size_t>(model_.config.vocab_size) + 31) / 32;
      add_draw(*w.sampling, static_cast<int32_t>(in.row.size()) - 1, mask_words, in.sampling, in.edit, in.mask);
    }
    const PageTables& pages = w.session->tables();
    std::copy(pages.full.begin(), pages.full.end(), in.full_pages.begin() + i * table);
    std::copy(pages.window.begin(), pages.window.end(), in.window_pages.begin() + i * table);
  }
  in.batch = {.tokens = static_cast<int>(in.token.size()),
              .sequences = static_cast<int>(work.size()),
              .rows = static_cast<int>(in.row.size()),
              .samples = static_cast<int>(in.sampling.size())};
  return in;
}

void Engine::write(const Inputs& in) {
  const auto send = [this](Field field, const auto& values) {
    backend_->write(*state_, field, values.data(), values.size() * sizeof(values[0]));
  };
  send(Field::token, in.token);
  send(Field::position, in.position);
  send(Field::sequence, in.sequence);
  send(Field::full_pages, in.full_pages);
  send(Field::window_pages, in.window_pages);
  send(Field::row, in.row);
  send(Field::sampling, in.sampling);
  send(Field::edit, in.edit);
  send(Field::mask, in.mask);
}

void Engine::submit(const Batch& batch, const std::function<void()>& enqueue, const InterruptPoll& poll) {
  const Ticket ticket = backend_->submit(*state_, batch, enqueue, poll);
  backend_->wait(*state_, ticket, poll);
}

std::vector<Output> Engine::step(const std::vector<Work>& work, const InterruptPoll& poll, std::vector<FieldData>* observe) {
  const Turn turn(*this, poll);
  check(work);
  if (work.empty()) return {};
  Transaction transaction(*this, work);
  Inputs in = prepare(work);
  in.batch.rows_only = !observe;
  write(in);
  if (observe) {
    if (in.batch.tokens > limits_.max_observed)
      refuse("a step can observe " + std::to_string(limits_.max_observed) + " tokens, found " + std::to_string(in.batch.tokens));
    std::vector<Field> fields;
    for (const FieldData& data : *observe) fields.push_back(data.field);
    RecordingBackend recording(*backend_, fields);
    submit(in.batch, [&] { forward(recording, *state_, model_, in.batch); }, poll);
    const size_t layers = model_.layers.size();
    for (FieldData& data : *observe)
      for (size_t layer = 0; layer < layers; ++layer)
        backend_->read_kept(*state_, data.field, static_cast<int>(layer), data.bytes.data() + layer * (data.bytes.size() / layers),
                            data.bytes.size() / layers);
  } else {
    submit(in.batch, [&] { forward(*backend_, *state_, model_, in.batch); }, poll);
  }
  std::vector<Output> outputs = collect(work, in);
  for (size_t i = 0; i < work.size(); ++i) {
    if (!outputs[i].error.empty()) continue;
    for (auto& snapshot : transaction.commit(i)) prefixes_.add(std::move(snapshot));
  }
  return outputs;
}

std::vector<Output> Engine::collect(const std::vector<Work>& work, const Inputs& in) {
  const size_t vocab = model_.config.vocab_size, samples = in.sampling.size();
  const auto fetch = [this](Field field, auto& values) {
    backend_->read(*state_, field, values.data(), values.size() * sizeof(values[0]));
  };
  std::vector<int32_t> drawn(samples), top_token;
  std::vector<float> logprob, top_logprob, logits;
  fetch(Field::next_token, drawn);
  bool rows_wanted = false, logprobs_wanted = false;
  for (const Work& w : work) {
    rows_wanted = rows_wanted || !w.rows.empty();
    logprobs_wanted = logprobs_wanted || (w.sampling && w.sampling->logprobs >= 0);
  }
  if (rows_wanted) {  // they leave the device only when asked for
    logits.resize(in.row.size() * vocab);
    fetch(Field::logits, logits);
  }
  if (logprobs_wanted) {
    logprob.resize(samples);
    top_token.resize(samples * kMaxLogprobs);
    top_logprob.resize(samples * kMaxLogprobs);
    fetch(Field::logprob, logprob);
    fetch(Field::top_token, top_token);
    fetch(Field::top_logprob, top_logprob);
  }

  std::vector<Output> outputs(work.size());
  size_t row = 0, sample = 0;
  for (size_t i = 0; i < work.size(); ++i) {
    const size_t rows = work[i].rows.size();
    Output& out = outputs[i];
    if (rows) out.logits.assign(logits.begin() + row * vocab, logits.begin() + (row + rows) * vocab);
    row += rows;
    if (!work[i].sampling) continue;
    ++row;
    out.token = drawn[sample];
    if (out.token == kNotFinite) out.error = "the model's logits are not finite: the checkpoint's weights are damaged";
    if (out.token == kNothingAllowed) out.error = "no token may be drawn: the mask and the logit bias forbid every one";
    const int top = std::min({work[i].sampling->logprobs, kMaxLogprobs, static_cast<int>(vocab)});
    if (top >= 0) out.logprob = logprob[sample];
    if (top > 0) {
      out.top_tokens.assign(top_token.begin() + sample * kMaxLogprobs, top_token.begin() + sample * kMaxLogprobs + top);
      out.top_logprobs.assign(top_logprob.begin() + sample * kMaxLogprobs, top_logprob.begin() + sample * kMaxLogprobs + top);
    }
    ++sample;
  }
  return outputs;
}

void Engine::run_stages(const std::vector<std::string>& stages, int layer_index, const std::vector<Work>& work,
                        const std::vector<FieldData>& fields, std::vector<FieldData>& results) {
  const Turn turn(*this);
  check(work);
  if (layer_index < 0 || layer_index >= model_.config.num_hidden_layers)
    refuse("layers are 0 to " + std::to_string(model_.config.num_hidden_layers - 1) + ", found " + std::to_string(layer_index));
  Transaction transaction(*this, work);  // never committed
  const Inputs in = prepare(work);
  Backend& device = *backend_;
  const Layer& layer = *model_.layers[layer_index];
  const std::map<std::string, std::function<void()>> known{
      {"embed", [&] { device.embed(*state_, *model_.ends, in.batch); }},
      {"attn_qkv", [&] { device.attn_qkv(*state_, layer, in.batch); }},
      {"attn", [&] { device.attn(*state_, layer, in.batch); }},
      {"attn_out", [&] { device.attn_out(*state_, layer, in.batch); }},
      {"moe_route", [&] { device.moe_route(*state_, layer, in.batch); }},
      {"moe_up", [&] { device.moe_up(*state_, layer, in.batch); }},
      {"moe_down", [&] { device.moe_down(*state_, layer, in.batch); }},
      {"unembed", [&] { device.unembed(*state_, *model_.ends, in.batch); }},
      {"sample", [&] { device.sample(*state_, *model_.ends, in.batch); }}};
  for (const auto& name : stages)
    if (!known.count(name)) refuse("no stage is named '" + name + "'");
  write(in);
  submit(in.batch, [&] { device.embed(*state_, *model_.ends, in.batch); }, nullptr);  // a step begins with it
  for (const auto& f : fields) device.write(*state_, f.field, f.bytes.data(), f.bytes.size());
  submit(in.batch, [&] {
    for (const auto& name : stages) known.at(name)();
  }, nullptr);
  for (auto& f : results) device.read(*state_, f.field, f.bytes.data(), f.bytes.size());
}

}  // namespace gptoss
