#include "engine.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "step.h"
#include "turn.h"

namespace gptoss {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

}  // namespace

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
}

Engine::~Engine() {
  for (const auto& step : under_way_) {
    try {
      backend_->wait(*state_, step->ticket, nullptr);
    } catch (const std::exception&) {  // nobody is there to be told
    }
  }
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
  if (session.is_reserved()) refuse("the session is in a step that is under way; collect that one first");
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

}  // namespace gptoss
