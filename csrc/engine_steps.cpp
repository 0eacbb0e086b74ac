// The steps of an engine: begun, waited for, committed or given up.
#include <algorithm>
#include <map>
#include <stdexcept>

#include "forward.h"
#include "recording.h"
#include "step.h"
#include "turn.h"

namespace gptoss {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

}  // namespace

// --- A step's room

void Engine::Step::reserve(Engine& engine, bool may_evict) {
  try {
    for (size_t i = 0; i < work.size(); ++i) {
      make_room(engine, work[i], may_evict);
      open_[i] = true;
      for (const auto& copy : work[i].session->copies()) engine.backend_->copy_page(*engine.state_, copy.from, copy.to);
      work[i].session->copied();
    }
  } catch (...) {
    give_back();
    throw;
  }
}

void Engine::Step::make_room(Engine& engine, const Work& w, bool may_evict) {
  for (;;) {
    try {
      return w.session->reserve(w.tokens);
    } catch (const OutOfPages& error) {
      if (may_evict && engine.prefixes_.evict()) continue;
      throw OutOfPages(std::string(error.what()) + ", and " + std::to_string(w.tokens.size()) +
                       " tokens more of a sequence of " + std::to_string(w.session->reserved_end()) + " do not fit; " +
                       std::to_string(w.session->room(engine.free_pages())) + " would");
    }
  }
}

std::vector<std::shared_ptr<const Snapshot>> Engine::Step::commit(size_t i, int32_t token) {
  Session& session = *work[i].session;
  std::vector<int> places;
  for (int32_t tokens : work[i].checkpoints) places.push_back(session.length() + tokens);
  open_[i] = false;
  auto snapshots = session.commit(places);
  const auto later = next.lock();
  const int there = later ? later->find(session) : -1;
  if (there >= 0) {
    later->work[there].tokens[0] = token;
    session.settle(token);
  }
  return snapshots;
}

void Engine::Step::leave_out(size_t i) {
  open_[i] = false;
  const auto later = next.lock();
  const int there = later ? later->find(*work[i].session) : -1;
  if (there >= 0)
    later->dropped[there] = true;
  else
    work[i].session->rollback();  // of this step, and of those before it that left it out
}

void Engine::Step::give_back() {
  for (size_t i = 0; i < open_.size(); ++i) {
    if (!open_[i]) continue;
    open_[i] = false;
    if (dropped[i])
      work[i].session->rollback();
    else
      work[i].session->rollback_last();
  }
}

int Engine::Step::find(const Session& session) const {
  for (size_t i = 0; i < work.size(); ++i)
    if (work[i].session.get() == &session) return static_cast<int>(i);
  return -1;
}

int Engine::Step::sample_of(int i) const {
  return static_cast<int>(std::count_if(work.begin(), work.begin() + i, [](const Work& w) { return w.sampling.has_value(); }));
}

// --- What a step is told

// The fields of a step, as the device wants them.
struct Engine::Inputs {
  Batch batch;
  std::vector<int32_t> token, position, sequence, full_pages, window_pages, row;
  std::vector<SampleParams> sampling;
  std::vector<TokenEdit> edit;
  std::vector<uint32_t> mask;
};

void Engine::check(const std::vector<Work>& work, const Step* after) const {
  if (!state_) refuse("the engine was not started");
  if (static_cast<int>(work.size()) > limits_.max_sequences)
    refuse("a step holds " + std::to_string(limits_.max_sequences) + " sequences, found " + std::to_string(work.size()));
  size_t tokens = 0, rows = 0;
  for (size_t i = 0; i < work.size(); ++i) {
    const Work& w = work[i];
    for (size_t j = 0; j < i; ++j)
      if (work[j].session == w.session) refuse("a session appears twice in one step");
    if (w.tokens.empty()) refuse("expected at least one token for each session of a step");
    const int before = after ? after->find(*w.session) : -1;
    const bool goes_on = before >= 0 && after->work[before].sampling && !after->dropped[before] && w.tokens.size() == 1 &&
                         w.tokens[0] == kDrawnBefore;
    if (w.session->is_reserved() && !goes_on)
      refuse("a session is in a step that is under way, which this one does not follow");
    for (int32_t token : w.tokens)
      if (!goes_on && (token < 0 || token >= model_.config.vocab_size))
        refuse("token ids are 0 to " + std::to_string(model_.config.vocab_size - 1) + ", found " + std::to_string(token));
    for (int32_t row : w.rows)
      if (row < 0 || row >= static_cast<int32_t>(w.tokens.size()))
        refuse("rows are 0 to " + std::to_string(w.tokens.size() - 1) + ", found " + std::to_string(row));
    for (int32_t place : w.checkpoints)
      if (place < 1 || place > static_cast<int32_t>(w.tokens.size()))
        refuse("checkpoints are 1 to " + std::to_string(w.tokens.size()) + ", found " + std::to_string(place));
    if (w.sampling) check(*w.sampling);
    const size_t length = w.session->reserved_end() + w.tokens.size();
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

Engine::Inputs Engine::prepare(const Step& step) const {
  const std::vector<Work>& work = step.work;
  Inputs in;
  const size_t table = state_limits_.table_pages();
  in.full_pages.assign(work.size() * table, -1);
  in.window_pages.assign(work.size() * table, -1);
  for (size_t i = 0; i < work.size(); ++i) {
    const Work& w = work[i];
    const int32_t first = static_cast<int32_t>(in.token.size());
    const int32_t count = static_cast<int32_t>(w.tokens.size()), begin = w.session->reserved_end() - count;
    for (int32_t j = 0; j < count; ++j) {
      in.token.push_back(w.tokens[j] != kDrawnBefore ? w.tokens[j]
                                                     : drawn_before(step.after->sample_of(step.after->find(*w.session))));
      in.position.push_back(begin + j);
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

// --- Begin, finish, end

std::vector<Output> Engine::step(const std::vector<Work>& work, const InterruptPoll& poll, std::vector<FieldData>* observe) {
  const Turn turn(*this, poll);
  const std::shared_ptr<Step> step = begin(work, nullptr, poll, observe);
  try {
    if (!step->finished) finish(*step, poll);
    const size_t layers = model_.layers.size();
    if (observe && !work.empty())
      for (FieldData& data : *observe)
        for (size_t layer = 0, bytes = data.bytes.size() / layers; layer < layers; ++layer)
          backend_->read_kept(*state_, data.field, static_cast<int>(layer), data.bytes.data() + layer * bytes, bytes);
  } catch (...) {
    give_up(step);
    throw;
  }
  return end(*step);
}

std::shared_ptr<Engine::Step> Engine::submit(std::vector<Work> work, const std::shared_ptr<Step>& after,
                                             const InterruptPoll& poll) {
  const Turn turn(*this, poll);
  return begin(std::move(work), after, poll, nullptr);
}

std::vector<Output> Engine::collect(const std::shared_ptr<Step>& step, const std::vector<bool>& dropped,
                                    const InterruptPoll& poll) {
  const Turn turn(*this, poll);
  if (step->over) refuse("the step was collected before, or given up with the one before it");
  if (step->after && !step->after->over) refuse("the step before this one has to be collected first");
  if (!dropped.empty() && dropped.size() != step->work.size())
    refuse("dropped: expected " + std::to_string(step->work.size()) + " of them, found " + std::to_string(dropped.size()));
  try {
    while (!step->finished) finish(*under_way_.front(), poll);
  } catch (...) {
    give_up(step);
    throw;
  }
  for (size_t i = 0; i < dropped.size(); ++i)
    if (dropped[i]) step->dropped[i] = true;
  return end(*step);
}

std::shared_ptr<Engine::Step> Engine::begin(std::vector<Work> work, const std::shared_ptr<Step>& after,
                                            const InterruptPoll& poll, const std::vector<FieldData>* observe) {
  if (after) {
    if (!runs_ahead()) refuse("this device runs no step ahead");
    if (under_way_.empty() || under_way_.back() != after) return nullptr;
    for (const Work& w : after->work)
      if (!w.rows.empty()) refuse("a step that was asked for rows of logits cannot be followed");
  }
  while (!under_way_.empty() && under_way_.front().use_count() == 1)  // the list's own: nobody can collect it
    give_up(std::shared_ptr<Step>(under_way_.front()));
  check(work, after.get());
  while (under_way_.size() > (after ? 1u : 0u)) finish(*under_way_.front(), poll);
  auto step = std::make_shared<Step>(std::move(work));
  if (step->work.empty()) {
    step->finished = true;
    return step;
  }
  step->after = after;
  step->reserve(*this, !after);
  Inputs in = prepare(*step);
  in.batch.rows_only = !observe;
  step->batch = in.batch;
  write(in);
  std::vector<Field> fields;
  if (observe) {
    if (in.batch.tokens > limits_.max_observed)
      refuse("a step can observe " + std::to_string(limits_.max_observed) + " tokens, found " + std::to_string(in.batch.tokens));
    for (const FieldData& data : *observe) fields.push_back(data.field);
  }
  RecordingBackend recording(*backend_, fields);
  Backend& device = observe ? recording : *backend_;
  step->ticket = backend_->submit(*state_, in.batch, [&] { forward(device, *state_, model_, in.batch); }, poll);
  under_way_.push_back(step);
  if (after) after->next = step;
  return step;
}

void Engine::finish(Step& step, const InterruptPoll& poll) {
  backend_->wait(*state_, step.ticket, poll);
  read_results(step);
  step.finished = true;
  std::erase_if(under_way_, [&](const auto& other) { return other.get() == &step; });
}

void Engine::read_results(Step& step) {
  const size_t samples = step.batch.samples;
  const auto fetch = [this](Field field, auto& values, size_t count) {
    values.resize(count);
    backend_->read(*state_, field, values.data(), count * sizeof(values[0]));
  };
  fetch(Field::next_token, step.drawn, samples);
  bool rows_wanted = false, logprobs_wanted = false;
  for (const Work& w : step.work) {
    rows_wanted = rows_wanted || !w.rows.empty();
    logprobs_wanted = logprobs_wanted || (w.sampling && w.sampling->logprobs >= 0);
  }
  if (rows_wanted)  // they leave the device only when asked for
    fetch(Field::logits, step.logits, step.batch.rows * static_cast<size_t>(model_.config.vocab_size));
  if (!logprobs_wanted) return;
  fetch(Field::logprob, step.logprob, samples);
  fetch(Field::top_token, step.top_token, samples * kMaxLogprobs);
  fetch(Field::top_logprob, step.top_logprob, samples * kMaxLogprobs);
}

std::vector<Output> Engine::end(Step& step) {
  step.over = true;
  step.after.reset();
  const size_t vocab = model_.config.vocab_size;
  std::vector<Output> outputs(step.work.size());
  size_t row = 0, sample = 0;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Work& w = step.work[i];
    const size_t rows = w.rows.size();
    Output& out = outputs[i];
    if (rows) out.logits.assign(step.logits.begin() + row * vocab, step.logits.begin() + (row + rows) * vocab);
    row += rows;
    if (!w.sampling) continue;
    ++row;
    out.token = step.drawn[sample];
    if (out.token == kNotFinite) out.error = "the model's logits are not finite: the checkpoint's weights are damaged";
    if (out.token == kNothingAllowed) out.error = "no token may be drawn: the mask and the logit bias forbid every one";
    const int top = std::min({w.sampling->logprobs, kMaxLogprobs, static_cast<int>(vocab)});
    if (top >= 0) out.logprob = step.logprob[sample];
    if (top > 0) {
      const auto first = static_cast<std::ptrdiff_t>(sample * kMaxLogprobs);
      out.top_tokens.assign(step.top_token.begin() + first, step.top_token.begin() + first + top);
      out.top_logprobs.assign(step.top_logprob.begin() + first, step.top_logprob.begin() + first + top);
    }
    ++sample;
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (step.dropped[i] || !outputs[i].error.empty()) {
      if (step.dropped[i]) outputs[i] = {};
      step.leave_out(i);
      continue;
    }
    for (auto& snapshot : step.commit(i, outputs[i].token)) prefixes_.add(std::move(snapshot));
  }
  step.work.clear();  // whoever still has the step holds no pages by it
  return outputs;
}

void Engine::give_up(const std::shared_ptr<Step>& step) {
  for (const auto& other : under_way_) {
    try {
      backend_->wait(*state_, other->ticket, nullptr);  // what runs may still use the pages
    } catch (const std::exception&) {  // the caller has an error to tell
    }
  }
  if (const auto later = step->next.lock(); later && !later->over) give_up(later);
  step->give_back();
  step->work.clear();
  step->over = true;
  step->after.reset();
  std::erase(under_way_, step);
}

// --- Stages one by one

void Engine::run(const Batch& batch, const std::function<void()>& enqueue) {
  backend_->wait(*state_, backend_->submit(*state_, batch, enqueue, nullptr), nullptr);
}

void Engine::run_stages(const std::vector<std::string>& stages, int layer_index, const std::vector<Work>& work,
                        const std::vector<FieldData>& fields, std::vector<FieldData>& results) {
  const Turn turn(*this);
  while (!under_way_.empty()) finish(*under_way_.front(), nullptr);
  check(work, nullptr);
  if (layer_index < 0 || layer_index >= model_.config.num_hidden_layers)
    refuse("layers are 0 to " + std::to_string(model_.config.num_hidden_layers - 1) + ", found " + std::to_string(layer_index));
  Step step(work);  // never committed
  step.reserve(*this, true);
  const Inputs in = prepare(step);
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
  run(in.batch, [&] { device.embed(*state_, *model_.ends, in.batch); });  // a step begins with it
  for (const auto& f : fields) device.write(*state_, f.field, f.bytes.data(), f.bytes.size());
  run(in.batch, [&] {
    for (const auto& name : stages) known.at(name)();
  });
  for (auto& f : results) device.read(*state_, f.field, f.bytes.data(), f.bytes.size());
}

}  // namespace gptoss
