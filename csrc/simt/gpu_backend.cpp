#include "gpu_backend.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>

namespace gptoss::simt {
namespace {

using Clock = std::chrono::steady_clock;

// Calls of an eager step that are put into the stream together: about a layer.
constexpr size_t kChunkCalls = 6;
// Steps with different calls that a state remembers; each graph costs the driver some memory.
constexpr size_t kRecordedSteps = 32;

// Waits for the event, asking the caller now and then. When the caller wants to stop, first for what runs
// already.
// `what()` says what ran, should it have failed.
template <class What>
void await(const Event& event, const Stream& stream, const InterruptPoll& poll, const What& what) {
  Clock::time_point asked = Clock::now();
  const Clock::time_point begun = asked;
  const auto done = [&] {
    try {
      return event.done();
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(what() + ": " + error.what());
    }
  };
  while (!done()) {
    const Clock::time_point now = Clock::now();
    if (poll && now - asked >= std::chrono::milliseconds(50)) {
      asked = now;
      bool stop = true;
      try {
        stop = poll();
      } catch (...) {
        stream.wait();
        throw;
      }
      if (stop) {
        stream.wait();
        throw Interrupted();
      }
    }
    // Decode steps end within milliseconds, and a sleep may take longer than it is told to.
    if (now - begun > std::chrono::milliseconds(5)) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

void check_size(size_t bytes, size_t capacity) {
  if (bytes > capacity)
    throw std::logic_error("a field holds " + std::to_string(capacity) + " bytes, asked for " + std::to_string(bytes));
}

std::string names(const std::vector<Call>& calls, size_t first, size_t end) {
  std::string text;
  for (size_t i = first; i < end; ++i) {
    text += (i == first ? "" : ", ") + std::string(name(calls[i].stage));
    if (calls[i].layer && (i + 1 == end || calls[i + 1].layer != calls[i].layer))
      text += " of layer " + std::to_string(calls[i].layer->index);
  }
  return text;
}

}  // namespace

GpuBackend::GpuBackend(const BackendOptions& options, int index, std::string name, std::string detail,
                       std::unique_ptr<MatrixKernels> matrix)
    : options_(options), index_(index), name_(std::move(name)), detail_(std::move(detail)), matrix_(std::move(matrix)) {
  if (options.dense != Dense::bf16)
    throw std::invalid_argument("dense weights stay in bf16 on this device; load with dense='bf16', or with device='cpu'");
  // Who looks for a kernel that fails has the runtime wait for each: which a graph's are not.
  const char* blocking = std::getenv(kLaunchBlocking);
  if (blocking != nullptr && std::string(blocking) != "0") graphs_ = false;
  use_device();
}

// The runtime's notion of a current device is each thread's own.
void GpuBackend::use_device() const { check(GPU(SetDevice)(index_), "choosing device " + std::to_string(index_)); }

DeviceFacts GpuBackend::facts() const {
  return {.name = name_,
          .detail = matrix_ ? detail_ + ", " + matrix_->name() : detail_,
          .threads = 0,
          .precision = options_.precision,
          .kv_dtype = options_.kv_dtype};
}

// --- The state

size_t GpuBackend::page_bytes(const Config& c) const {
  const size_t element = options_.kv_dtype == KvDType::f32 ? sizeof(float) : sizeof(uint16_t);
  const size_t layers = std::max(c.layers_of(LayerType::full_attention), c.layers_of(LayerType::sliding_attention));
  return layers * c.num_key_value_heads * kPageTokens * 2 * c.head_dim * element;
}

MatrixNeeds GpuBackend::needs(const Config& c, const Limits& limits) const {
  if (!matrix_) return {};
  return {.terms = operand_terms(options_.precision), .scratch_bytes = matrix_->scratch_bytes(c, limits)};
}

StateBytes GpuBackend::plan(const Config& c, const Limits& limits) const {
  Buffers shape;
  Arena activations(nullptr), logits(nullptr);
  arrange(shape, c, limits, needs(c, limits), activations, logits);
  return {.weights = weight_bytes(c),
          .kv = page_bytes(c) * limits.pages,
          .activations = activations.used(),
          .logits = logits.used(),
          .kept = kept_bytes(c, limits)};
}

std::unique_ptr<State> GpuBackend::state(const Config& c, const Limits& limits) {
  use_device();
  if (most_tiles(limits.max_tokens * c.num_experts_per_tok, c.num_local_experts) > 65535)
    throw std::invalid_argument("device " + name_ + ": a step of " + std::to_string(limits.max_tokens) +
                                " tokens is more than a grid can hold; set a smaller token budget");
  const StateBytes bytes = plan(c, limits);
  const size_t wanted = bytes.kv + bytes.activations + bytes.logits + bytes.kept;
  size_t free = 0, total = 0;
  check(GPU(MemGetInfo)(&free, &total), "asking for the device's free memory");
  if (wanted > free)
    throw std::runtime_error("out of memory: the KV cache (" + std::to_string(bytes.kv) + " bytes), activations (" +
                             std::to_string(bytes.activations) + "), logits (" + std::to_string(bytes.logits) +
                             ") and observed values (" + std::to_string(bytes.kept) + ") need " +
                             std::to_string(wanted) + " bytes of device " + name_ + ", " + std::to_string(free) +
                             " of " + std::to_string(total) + " are free");
  auto s = std::make_unique<GpuState>();
  s->dependent_launches = dependent_launches_;
  s->activations_memory = DeviceMemory(bytes.activations, "activations");
  s->logits_memory = DeviceMemory(bytes.logits, "logits");
  s->kv = DeviceMemory(bytes.kv, "KV cache");
  s->kept_memory = DeviceMemory(bytes.kept, "observed values");
  Arena activations(s->activations_memory.data()), logits(s->logits_memory.data());
  arrange(*s, c, limits, needs(c, limits), activations, logits);
  const size_t scratch = needs(c, limits).scratch_bytes;
  if (scratch > 0) check(GPU(MemsetAsync)(s->scratch, 0, scratch, s->stream), "clearing scratch memory");
  s->kept = s->kept_memory.data();
  if (kCopiesAreAsynchronous)
    for (Flight& flight : s->flights) {
      flight.inputs = PinnedMemory(input_bytes(*s));
      flight.results = PinnedMemory(result_block(*s).bytes);
    }
  s->page_bytes = page_bytes(c);
  s->page_layer_bytes =
      s->page_bytes / std::max(c.layers_of(LayerType::full_attention), c.layers_of(LayerType::sliding_attention));
  s->page_head_bytes = s->page_layer_bytes / c.num_key_value_heads;
  const Rope rope = make_rope(c);
  s->concentration = rope.concentration;
  check(GPU(MemcpyAsync)(s->inv_freq, rope.inv_freq.data(), rope.inv_freq.size() * sizeof(float),
                         GPU(MemcpyHostToDevice), s->stream),
        "writing the rotary frequencies");
  s->stream.wait();  // the host's copy ends here
  return s;
}

// From pinned memory of the step that is being written, so that the host goes on while the step before runs. What does
// not fit there is pageable memory: the runtime copies it away before the call returns, and may wait for the stream.
void GpuBackend::send(GpuState& s, void* to, const void* data, size_t bytes, const char* what) {
  Flight& flight = s.flight(s.ticket + 1);
  if (!flight.mine) {
    flight.end.wait();  // the step before the last: ended long ago
    flight.mine = true;
    flight.used = 0;
  }
  if (bytes <= flight.inputs.bytes() - flight.used) {
    data = std::memcpy(flight.inputs.data() + flight.used, data, bytes);
    flight.used += bytes;
  }
  check(GPU(MemcpyAsync)(to, data, bytes, GPU(MemcpyHostToDevice), s.stream), what);
}

void GpuBackend::write(State& state, Field field, const void* data, size_t bytes) {
  auto& s = static_cast<GpuState&>(state);
  const Place to = place(s, field);
  check_size(bytes, to.bytes);
  if (bytes == 0) return;
  use_device();
  send(s, to.data, data, bytes, "writing a field");
}

void GpuBackend::read(State& state, Field field, void* data, size_t bytes) {
  auto& s = static_cast<GpuState&>(state);
  const Place from = place(s, field);
  check_size(bytes, from.bytes);
  if (bytes == 0) return;
  const ResultBlock results = result_block(s);
  const auto offset = static_cast<size_t>(static_cast<uint8_t*>(from.data) - results.data);
  const Flight& flight = s.flight(s.waited);
  if (s.waited > 0 && offset < results.bytes && flight.results.data() != nullptr) {
    if (s.waited + 1 < s.ticket) throw std::logic_error("two steps were submitted since the one that was waited for");
    std::memcpy(data, flight.results.data() + offset, bytes);
    return;
  }
  use_device();
  check(GPU(MemcpyAsync)(data, from.data, bytes, GPU(MemcpyDeviceToHost), s.stream), "reading a field");
  s.stream.wait();
}

void GpuBackend::copy_page(State& state, int from, int to) {
  auto& s = static_cast<GpuState&>(state);
  use_device();
  check(GPU(MemcpyAsync)(s.kv.data() + to * s.page_bytes, s.kv.data() + from * s.page_bytes, s.page_bytes,
                         GPU(MemcpyDeviceToDevice), s.stream),
        "copying a KV page");
}

void GpuBackend::read_kept(State& state, Field field, int layer, void* data, size_t bytes) {
  auto& s = static_cast<GpuState&>(state);
  check_size(bytes, token_bytes(s.config, field) * s.limits.max_kept);
  if (bytes == 0) return;
  use_device();
  check(GPU(MemcpyAsync)(data, kept_slot(s, field, layer), bytes, GPU(MemcpyDeviceToHost), s.stream),
        "reading observed values");
  s.stream.wait();
}

// --- Steps

void GpuBackend::write_down(State& state, Stage stage, const Layer& layer, const Batch& b) {
  const Batch grid{bucket(b.tokens), bucket(b.sequences), bucket(b.rows), bucket(b.samples)};
  static_cast<GpuState&>(state).calls.push_back(
      {.stage = stage, .layer = &layer, .weights = static_cast<const GpuLayer&>(layer).id, .grid = grid});
}
void GpuBackend::write_down(State& state, Stage stage, const Ends& ends, const Batch& b) {
  const Batch grid{bucket(b.tokens), bucket(b.sequences), bucket(b.rows), bucket(b.samples)};
  static_cast<GpuState&>(state).calls.push_back(
      {.stage = stage, .ends = &ends, .weights = static_cast<const GpuEnds&>(ends).id, .grid = grid});
}

void GpuBackend::keep(State& state, Field field, int layer, const Batch& batch) {
  auto& s = static_cast<GpuState&>(state);
  if (batch.tokens > s.limits.max_kept)
    throw std::invalid_argument("values of " + std::to_string(s.limits.max_kept) +
                                " tokens can be kept, the step has " + std::to_string(batch.tokens));
  (void)kept_slot(s, field, layer);  // throws if this field cannot be kept
  s.calls.push_back({.stage = Stage::keep, .field = field, .index = layer, .kept = batch.tokens});
}

void GpuBackend::run_keep(GpuState& s, const Call& call) {
  s.behind_a_kernel = false;
  check(GPU(MemcpyAsync)(kept_slot(s, call.field, call.index), place(s, call.field).data,
                         token_bytes(s.config, call.field) * call.kept, GPU(MemcpyDeviceToDevice), s.stream),
        "keeping observed values");
}

// How many tokens are kept is no bucket, and prefill gains nothing from a graph.
RecordedStep* GpuBackend::recorded(GpuState& s) {
  for (const Call& call : s.calls)
    if (call.stage == Stage::keep || call.grid.tokens > kDecodeTokens || call.grid.rows > kDecodeTokens) return nullptr;
  const auto known = std::find_if(s.steps.begin(), s.steps.end(),
                                  [&](const RecordedStep& step) { return same(step.calls, s.calls); });
  if (known != s.steps.end()) {
    RecordedStep step = std::move(*known);
    s.steps.erase(known);
    s.steps.push_back(std::move(step));
    return &s.steps.back();
  }
  if (s.steps.size() == kRecordedSteps) {
    s.stream.wait();  // the oldest graph may still run
    s.steps.pop_front();
  }
  s.steps.push_back({.calls = s.calls});
  return nullptr;  // once is no habit: run as it is, captured when it comes again
}

void GpuBackend::run_call(GpuState& s, size_t i) {
  s.next = i + 1 < s.calls.size() ? &s.calls[i + 1] : nullptr;
  run(s, s.calls[i]);
}

void GpuBackend::run_eagerly(GpuState& s, const InterruptPoll& poll) {
  const size_t size = step_is_one_chunk_ ? s.calls.size() : kChunkCalls;
  for (size_t first = 0, chunk = 0; first < s.calls.size(); first += size, ++chunk) {
    const size_t end = std::min(first + size, s.calls.size());
    const auto what = [&](size_t from) { return "device " + name_ + ": " + names(s.calls, from, end); };
    if (chunk >= 2) await(s.chunk[chunk % 2], s.stream, poll, [&] { return what(first - 2 * size); });
    try {
      for (size_t i = first; i < end; ++i) run_call(s, i);
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(what(first) + ": " + error.what());
    }
    s.chunk[chunk % 2].record(s.stream);
  }
}

Ticket GpuBackend::submit(State& state, const Batch& batch, const std::function<void()>& enqueue,
                          const InterruptPoll& poll) {
  auto& s = static_cast<GpuState&>(state);
  use_device();
  std::swap(s.calls, s.calls_before);
  s.calls.clear();
  s.behind_a_kernel = false;
  s.attn_in_terms = s.routed = nullptr;
  enqueue();
  const LiveCounts live{batch.tokens, batch.rows, batch.samples};
  send(s, s.live, &live, sizeof live, "writing the step's counts");
  RecordedStep* step = graphs_ ? recorded(s) : nullptr;
  if (step == nullptr) {
    run_eagerly(s, poll);
    ++counters_.eager;
  } else {
    if (step->captured) {
      ++counters_.replayed;
    } else {
      step->graph = Graph::capture(s.stream, [&] {
        for (size_t i = 0; i < s.calls.size(); ++i) run_call(s, i);
      });
      step->captured = true;
      ++counters_.captured;
    }
    step->graph.launch(s.stream);
  }
  Flight& flight = s.flight(s.ticket + 1);
  if (kCopiesAreAsynchronous && batch.samples > 0) {
    const ResultBlock results = result_block(s);
    check(GPU(MemcpyAsync)(flight.results.data(), results.data, results.bytes, GPU(MemcpyDeviceToHost), s.stream),
          "reading what was drawn");
  }
  flight.end.record(s.stream);
  flight.mine = false;
  return ++s.ticket;
}

void GpuBackend::wait(State& state, Ticket ticket, const InterruptPoll& poll) {
  auto& s = static_cast<GpuState&>(state);
  if (ticket == 0 || ticket > s.ticket || ticket + 1 < s.ticket) throw std::logic_error("a ticket of no step that is under way");
  use_device();
  const std::vector<Call>& calls = ticket == s.ticket ? s.calls : s.calls_before;
  await(s.flight(ticket).end, s.stream, poll, [&] { return "device " + name_ + ": " + names(calls, 0, calls.size()); });
  s.waited = ticket;
}

}  // namespace gptoss::simt
