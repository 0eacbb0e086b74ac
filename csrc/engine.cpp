#include "engine.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <stdexcept>

#include "forward.h"

namespace gptoss {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

// Reserves room in every session, and gives it back unless the step was committed.
class Transaction {
 public:
  explicit Transaction(const std::vector<Work>& work) : work_(work) {
    for (; reserved_ < work_.size(); ++reserved_) {
      try {
        work_[reserved_].session->reserve(static_cast<int>(work_[reserved_].tokens.size()));
      } catch (...) {
        rollback();
        throw;
      }
    }
  }
  ~Transaction() { rollback(); }
  void commit() {
    for (const Work& w : work_) w.session->commit();
    reserved_ = 0;
  }

 private:
  void rollback() {
    while (reserved_ > 0) work_[--reserved_].session->rollback();
  }
  const std::vector<Work>& work_;
  size_t reserved_ = 0;
};

}  // namespace

// The fields of a step, as the device wants them.
struct Engine::Inputs {
  Batch batch;
  std::vector<int32_t> token, position, sequence, full_pages, window_pages, row;
  std::vector<SampleParams> sampling;
};

// One thread at a time works on the engine; the others wait here, and may be interrupted while they do.
class Engine::Turn {
 public:
  explicit Turn(Engine& engine, const InterruptPoll& poll = nullptr) : engine_(engine) {
    const auto free = [&] { return engine.holder_ == std::thread::id(); };
    std::unique_lock lock(engine.mutex_);
    if (engine.holder_ == std::this_thread::get_id())
      throw std::logic_error("the engine was called from inside one of its own steps");
    while (!engine.turn_ended_.wait_for(lock, std::chrono::milliseconds(50), free)) {
      lock.unlock();
      if (poll && poll()) throw Interrupted();
      lock.lock();
    }
    engine.holder_ = std::this_thread::get_id();
  }
  ~Turn() {
    {
      std::lock_guard lock(engine_.mutex_);
      engine_.holder_ = std::thread::id();
    }
    engine_.turn_ended_.notify_all();
  }

 private:
  Engine& engine_;
};

Engine::Engine(const Config& config, const EngineLimits& limits, std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)), limits_(limits) {
  validate(config);
  const auto positive = [](const char* name, int value) {
    if (value < 1) refuse(std::string(name) + " must be at least 1, found " + std::to_string(value));
  };
  positive("max_context", limits.max_context);
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
                   .pages = 0};
  const int64_t pages = limits.max_sequences * pages_per_sequence(config, limits.max_context, limits_.max_tokens);
  if (pages > std::numeric_limits<int32_t>::max())
    refuse("max_context " + std::to_string(limits.max_context) + " for " + std::to_string(limits.max_sequences) +
           " sequences needs more KV pages than can be numbered");
  state_limits_.pages = static_cast<int>(pages);
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

std::shared_ptr<Session> Engine::session() {
  if (!pool_) refuse("the engine was not started");
  return std::make_shared<Session>(pool_, model_.config);
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
      in.sampling.push_back({.row = static_cast<int32_t>(in.row.size()) - 1,
                             .temperature = w.sampling->temperature,
                             .top_p = w.sampling->top_p,
                             .seed = {static_cast<uint32_t>(w.sampling->seed), static_cast<uint32_t>(w.sampling->seed >> 32)},
                             .index = w.sampling->index});
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
}

void Engine::submit(const Batch& batch, const std::function<void()>& enqueue, const InterruptPoll& poll) {
  const Ticket ticket = backend_->submit(*state_, batch, enqueue, poll);
  backend_->wait(*state_, ticket, poll);
}

std::vector<Output> Engine::step(const std::vector<Work>& work, const InterruptPoll& poll) {
  const Turn turn(*this, poll);
  check(work);
  if (work.empty()) return {};
  Transaction transaction(work);
  const Inputs in = prepare(work);
  write(in);
  submit(in.batch, [&] { forward(*backend_, *state_, model_, in.batch); }, poll);

  std::vector<int32_t> drawn(in.sampling.size());
  backend_->read(*state_, Field::next_token, drawn.data(), drawn.size() * sizeof(int32_t));
  const size_t vocab = model_.config.vocab_size;
  bool wanted = false;
  for (const Work& w : work) wanted = wanted || !w.rows.empty();
  std::vector<float> logits(wanted ? in.row.size() * vocab : 0);  // they leave the device only when asked for
  if (wanted) backend_->read(*state_, Field::logits, logits.data(), logits.size() * sizeof(float));

  std::vector<Output> outputs(work.size());
  size_t row = 0, sample = 0;
  for (size_t i = 0; i < work.size(); ++i) {
    const size_t rows = work[i].rows.size();
    if (rows) outputs[i].logits.assign(logits.begin() + row * vocab, logits.begin() + (row + rows) * vocab);
    row += rows;
    if (!work[i].sampling) continue;
    ++row;
    outputs[i].token = drawn[sample++];
    if (outputs[i].token < 0)
      throw std::runtime_error("the model's logits are not finite: the checkpoint's weights are damaged");
  }
  transaction.commit();
  return outputs;
}

void Engine::run_stages(const std::vector<std::string>& stages, int layer_index, const std::vector<Work>& work,
                        const std::vector<FieldData>& fields, std::vector<FieldData>& results) {
  const Turn turn(*this);
  check(work);
  if (layer_index < 0 || layer_index >= model_.config.num_hidden_layers)
    refuse("layers are 0 to " + std::to_string(model_.config.num_hidden_layers - 1) + ", found " + std::to_string(layer_index));
  Transaction transaction(work);  // never committed
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
