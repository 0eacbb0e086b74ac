// The one crossing between Python and the engine. Arguments are checked and converted here; the GIL is released
// around everything that computes.
#include <pybind11/functional.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <tuple>

#include "backends.h"
#include "bindings.h"
#include "build_info.h"
#include "cpu/ceilings.h"
#include "cpu/isa.h"
#include "cpu/memory.h"
#include "cpu/threads.h"
#include "engine.h"
#include "quantize.h"

namespace py = pybind11;
using namespace gptoss;

namespace {

// ---- the classes that Python sees --------------------------------------------------------------------------

// Asks Python whether to go on: signal handlers first, so that Ctrl-C works in the middle of a step, then the
// caller. What they raise is kept, and raised when the step has unwound.
class PythonPoll {
 public:
  explicit PythonPoll(py::object interrupted) : interrupted_(std::move(interrupted)) {}
  bool operator()() {
    py::gil_scoped_acquire gil;
    try {
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      return !interrupted_.is_none() && interrupted_().cast<bool>();
    } catch (...) {
      error_ = std::current_exception();
      return true;
    }
  }
  [[noreturn]] void raise() {
    if (error_) std::rethrow_exception(error_);
    PyErr_SetString(PyExc_InterruptedError, "the step was interrupted by its caller; nothing was added to the cache");
    throw py::error_already_set();
  }

 private:
  py::object interrupted_;
  std::exception_ptr error_;
};

struct Arrays {
  std::vector<py::object> arrays;
  ~Arrays() {
    py::gil_scoped_acquire gil;
    arrays.clear();
  }
};

// An engine and the arrays whose memory its weights are, which outlive it. Calls that are under way share it, so
// that close() in another thread takes nothing away from under them.
struct LoadedEngine : Arrays, Engine {
  using Engine::Engine;
};

struct PyEngine {
  std::shared_ptr<LoadedEngine> engine;
  pid_t process = getpid();

  std::shared_ptr<LoadedEngine> get() const {
    if (!engine) refuse("the engine is closed");
    if (getpid() != process)
      throw std::runtime_error("the engine was made before fork() and its threads do not exist in this process; load it here");
    return engine;
  }
};

struct PySession {
  std::shared_ptr<PyEngine> owner;
  std::shared_ptr<Session> session;  // shared with a step that is under way

  std::shared_ptr<Session> get() const {
    owner->get();
    if (!session) refuse("the session is closed");
    return session;
  }
  void close() { session.reset(); }
};

struct PyWork {
  std::shared_ptr<PySession> session;
  std::vector<int32_t> tokens, rows;
  std::optional<Sampling> sampling;
  std::vector<int32_t> checkpoints;
};

using Ids = py::array_t<int32_t, py::array::c_style>;
using Floats = py::array_t<float, py::array::c_style>;
using Words = py::array_t<uint32_t, py::array::c_style>;

std::vector<int32_t> to_ids(const Ids& array, const char* what) {
  if (array.ndim() != 1) refuse(std::string(what) + ": expected one dimension, found " + std::to_string(array.ndim()));
  return {array.data(), array.data() + array.size()};
}

// edits: (token ids, seen, counts, biases), arrays of one length; mask: uint32 words.
Sampling to_sampling(double temperature, double top_p, uint64_t seed, uint32_t index, int top_k, double min_p,
                     double repetition_penalty, double presence_penalty, double frequency_penalty, int logprobs,
                     const std::optional<std::tuple<Ids, Ids, Ids, Floats>>& edits, const std::optional<Words>& mask) {
  const auto within = [](const char* name, double value, double least, double most) {
    if (!(value >= least && value <= most))
      refuse(std::string(name) + ": expected " + std::to_string(least) + " to " + std::to_string(most) + ", found " + std::to_string(value));
    return static_cast<float>(value);
  };
  if (!(top_p > 0)) refuse("top_p: expected more than 0, found " + std::to_string(top_p));
  if (top_k < 0) refuse("top_k: expected 0 (all) or more, found " + std::to_string(top_k));
  if (logprobs < -1 || logprobs > kMaxLogprobs)
    refuse("logprobs: expected -1 (none) to " + std::to_string(kMaxLogprobs) + ", found " + std::to_string(logprobs));
  Sampling s{.temperature = within("temperature", temperature, 0, 1e6),
             .top_p = within("top_p", top_p, 0, 1),
             .min_p = within("min_p", min_p, 0, 1),
             .top_k = top_k,
             .repetition_penalty = within("repetition_penalty", repetition_penalty, 1e-6, 1e6),
             .presence_penalty = within("presence_penalty", presence_penalty, -1e6, 1e6),
             .frequency_penalty = within("frequency_penalty", frequency_penalty, -1e6, 1e6),
             .seed = seed,
             .index = index,
             .logprobs = logprobs,
             .edits = {},
             .mask = {}};
  if (edits) {
    const auto& [tokens, seen, counts, biases] = *edits;
    const py::ssize_t n = tokens.size();
    if (seen.size() != n || counts.size() != n || biases.size() != n) refuse("edits: expected four arrays of one length");
    for (py::ssize_t i = 0; i < n; ++i) {
      if (!(biases.at(i) < INFINITY)) refuse("edits: expected biases below infinity (-inf forbids a token), found " + std::to_string(biases.at(i)));
      s.edits.push_back({tokens.at(i), seen.at(i), counts.at(i), biases.at(i), 0});
    }
  }
  if (mask) s.mask.assign(mask->data(), mask->data() + mask->size());
  return s;
}

std::vector<Work> to_work(const PyEngine& engine, const std::vector<std::shared_ptr<PyWork>>& items) {
  std::vector<Work> work;
  for (const auto& item : items) {
    if (item->session->owner.get() != &engine) refuse("a session of another engine");
    work.push_back({item->session->get(), item->tokens, item->rows, item->sampling, item->checkpoints});
  }
  return work;
}

struct FieldShape {
  Field field;
  bool integer;
  std::vector<py::ssize_t> shape;
};

FieldShape field_shape(const Engine& engine, const std::string& name, py::ssize_t tokens, py::ssize_t rows, py::ssize_t samples) {
  const Config& c = engine.config();
  if (name == "residual") return {Field::residual, false, {tokens, c.hidden_size}};
  if (name == "attn") return {Field::attn, false, {tokens, c.num_attention_heads, c.head_dim}};
  if (name == "lse") return {Field::lse, false, {tokens, c.num_attention_heads}};
  if (name == "router_logits") return {Field::router_logits, false, {tokens, c.num_local_experts}};
  if (name == "router_choice") return {Field::router_choice, true, {tokens, c.num_experts_per_tok}};
  if (name == "router_weight") return {Field::router_weight, false, {tokens, c.num_experts_per_tok}};
  if (name == "logits") return {Field::logits, false, {rows, c.vocab_size}};
  if (name == "next_token") return {Field::next_token, true, {samples}};
  if (name == "logprob") return {Field::logprob, false, {samples}};
  if (name == "top_token") return {Field::top_token, true, {samples, kMaxLogprobs}};
  if (name == "top_logprob") return {Field::top_logprob, false, {samples, kMaxLogprobs}};
  refuse("no field is named '" + name + "'");
}

py::dict run_stages(PyEngine& self, const std::vector<std::string>& stages, int layer,
                    const std::vector<std::shared_ptr<PyWork>>& items, const std::map<std::string, py::array>& write,
                    const std::vector<std::string>& read) {
  const auto held = self.get();
  Engine& engine = *held;
  const std::vector<Work> work = to_work(self, items);
  py::ssize_t tokens = 0, rows = 0, samples = 0;
  for (const Work& w : work) {
    tokens += static_cast<py::ssize_t>(w.tokens.size());
    rows += static_cast<py::ssize_t>(w.rows.size()) + (w.sampling ? 1 : 0);
    samples += w.sampling ? 1 : 0;
  }
  std::vector<Engine::FieldData> writes, reads;
  for (const auto& [name, array] : write) {
    const FieldShape f = field_shape(engine, name, tokens, rows, samples);
    const py::array values = f.integer ? py::array(py::array_t<int32_t, py::array::c_style | py::array::forcecast>(array))
                                       : py::array(py::array_t<float, py::array::c_style | py::array::forcecast>(array));
    if (std::vector<py::ssize_t>(values.shape(), values.shape() + values.ndim()) != f.shape) refuse(name + ": wrong shape");
    const auto* bytes = static_cast<const uint8_t*>(values.data());
    writes.push_back({f.field, {bytes, bytes + values.nbytes()}});
  }
  std::vector<py::array> results;
  for (const auto& name : read) {
    const FieldShape f = field_shape(engine, name, tokens, rows, samples);
    results.push_back(f.integer ? py::array(py::dtype::of<int32_t>(), f.shape) : py::array(py::dtype::of<float>(), f.shape));
    reads.push_back({f.field, std::vector<uint8_t>(static_cast<size_t>(results.back().nbytes()))});
  }
  {
    py::gil_scoped_release release;
    engine.run_stages(stages, layer, work, writes, reads);
  }
  py::dict named;
  for (size_t i = 0; i < read.size(); ++i) {
    std::memcpy(results[i].mutable_data(), reads[i].bytes.data(), reads[i].bytes.size());
    named[read[i].c_str()] = results[i];
  }
  return named;
}

struct PyOutput {
  int32_t token;
  std::string error;
  py::array_t<float> logits;
  float logprob;
  std::vector<int32_t> top_tokens;
  std::vector<float> top_logprobs;
};

struct PyStep {
  std::shared_ptr<PyEngine> owner;
  std::shared_ptr<Engine::Step> step;
};

// Without the GIL; what the poll raises, and an interruption, become Python's.
template <class Call>
auto without_gil(const py::object& interrupted, const Call& call) {
  PythonPoll poll(interrupted);
  std::optional<decltype(call(InterruptPoll()))> result;
  {
    py::gil_scoped_release release;
    try {
      result = call(std::ref(poll));
    } catch (const Interrupted&) {
    }
  }
  if (!result) poll.raise();
  return std::move(*result);
}

std::vector<PyOutput> to_python(const Engine& engine, const std::vector<Output>& outputs) {
  const auto vocab = static_cast<py::ssize_t>(engine.config().vocab_size);
  std::vector<PyOutput> results;
  for (const Output& output : outputs) {
    py::array_t<float> logits({static_cast<py::ssize_t>(output.logits.size()) / vocab, vocab});
    if (!output.logits.empty()) std::memcpy(logits.mutable_data(), output.logits.data(), output.logits.size() * sizeof(float));
    results.push_back({output.token, output.error, std::move(logits), output.logprob, output.top_tokens, output.top_logprobs});
  }
  return results;
}

std::vector<PyOutput> step(PyEngine& self, const std::vector<std::shared_ptr<PyWork>>& items, const py::object& interrupted) {
  const auto engine = self.get();
  const std::vector<Work> work = to_work(self, items);
  return to_python(*engine, without_gil(interrupted, [&](const InterruptPoll& poll) { return engine->step(work, poll); }));
}

std::optional<PyStep> submit(std::shared_ptr<PyEngine> self, const std::vector<std::shared_ptr<PyWork>>& items,
                             const py::object& interrupted, const PyStep* after) {
  if (after && after->owner != self) refuse("a step of another engine");
  const auto engine = self->get();
  std::vector<Work> work = to_work(*self, items);
  auto step = without_gil(interrupted, [&](const InterruptPoll& poll) {
    return engine->submit(std::move(work), after ? after->step : nullptr, poll);
  });
  if (!step) return std::nullopt;
  return PyStep{std::move(self), std::move(step)};
}

std::vector<PyOutput> collect(PyEngine& self, const PyStep& step, const py::object& interrupted, const std::vector<bool>& dropped) {
  if (step.owner.get() != &self) refuse("a step of another engine");
  const auto engine = self.get();
  return to_python(*engine, without_gil(interrupted, [&](const InterruptPoll& poll) {
                     return engine->collect(step.step, dropped, poll);
                   }));
}

py::tuple observe(PyEngine& self, const std::vector<std::shared_ptr<PyWork>>& items, const std::vector<std::string>& fields) {
  const auto engine = self.get();
  const std::vector<Work> work = to_work(self, items);
  py::ssize_t tokens = 0;
  for (const Work& w : work) tokens += static_cast<py::ssize_t>(w.tokens.size());
  std::vector<py::array> arrays;
  std::vector<Engine::FieldData> kept;
  for (const auto& name : fields) {
    FieldShape f = field_shape(*engine, name, tokens, 0, 0);
    if (f.field > Field::router_weight) refuse(name + " is not kept per layer");
    f.shape.insert(f.shape.begin(), engine->config().num_hidden_layers);
    arrays.push_back(f.integer ? py::array(py::dtype::of<int32_t>(), f.shape) : py::array(py::dtype::of<float>(), f.shape));
    kept.push_back({f.field, std::vector<uint8_t>(static_cast<size_t>(arrays.back().nbytes()))});
  }
  const std::vector<PyOutput> outputs = to_python(*engine, without_gil(py::none(), [&](const InterruptPoll& poll) {
    return engine->step(work, poll, &kept);
  }));
  py::dict named;
  for (size_t i = 0; i < fields.size(); ++i) {
    std::memcpy(arrays[i].mutable_data(), kept[i].bytes.data(), kept[i].bytes.size());
    named[fields[i].c_str()] = arrays[i];
  }
  return py::make_tuple(outputs, named);
}

py::dict device_facts(const PyEngine& self) {
  const auto held = self.get();
  const Engine& engine = *held;
  const DeviceFacts facts = engine.facts();
  const StateBytes bytes = engine.bytes();
  // Of one pool: what max_total_tokens need in the full layers, and the rest, for windows and checkpoints.
  const size_t kv_full = bytes.kv / engine.pages() * static_cast<size_t>(engine.full_pages());
  py::dict memory, errors, d;
  for (const TensorError& error : facts.errors) errors[error.tensor.c_str()] = py::make_tuple(error.relative_rms, error.largest);
  memory["weights"] = bytes.weights;
  memory["kv_full"] = kv_full;
  memory["kv_window"] = bytes.kv - kv_full;
  memory["activations"] = bytes.activations;
  memory["logits"] = bytes.logits;
  memory["observed"] = bytes.kept;
  d["name"] = facts.name;
  d["isa"] = facts.detail;
  d["threads"] = facts.threads;
  d["precision"] = facts.precision == Precision::exact ? "exact" : "fast";
  d["kv_dtype"] = facts.kv_dtype == KvDType::f32 ? "f32" : "bf16";
  d["dense"] = facts.dense == Dense::int8 ? "int8" : "bf16";
  d["dense_errors"] = errors;
  d["memory"] = memory;
  return d;
}

py::dict info() {
  py::dict d;
  d["version"] = build::kVersion;
  d["compiler"] = build::kCompiler;
  d["build_type"] = build::kBuildType;
  d["usable_cores"] = cpu::usable_cores();
  py::list isas;
  for (const auto& isa : cpu::isas()) {
    py::dict i;
    i["name"] = isa.name;
    i["usable"] = isa.present;
    i["reason"] = isa.present ? "" : "this processor, or the system, does not have it";
    isas.append(i);
  }
  d["cpu_isas"] = isas;
  d["cpu_isa"] = cpu::choose_isa("").name;
  py::list devices;
  for (const auto& status : list_devices()) {
    py::dict s;
    s["name"] = status.name;
    s["built"] = status.built;
    s["present"] = status.present;
    s["detail"] = status.detail;
    devices.append(s);
  }
  d["devices"] = devices;
  return d;
}

py::tuple quantize(const py::array_t<uint16_t, py::array::c_style>& weight) {
  if (weight.ndim() != 2) refuse("weight: expected (in, out), found " + std::to_string(weight.ndim()) + " dimensions");
  const py::ssize_t in = weight.shape(0), out = weight.shape(1);
  if (in % 32 != 0) refuse("weight: expected the input dimension to be a multiple of 32, found " + std::to_string(in));
  py::array_t<uint8_t> blocks({out, in / 32, py::ssize_t{16}}), scales({out, in / 32});
  QuantizationError error;
  {
    const uint16_t* from = weight.data();
    uint8_t *to_blocks = blocks.mutable_data(), *to_scales = scales.mutable_data();
    py::gil_scoped_release release;
    error = quantize_mxfp4(from, in, out, to_blocks, to_scales);
  }
  if (!error.finite) refuse("weight: expected finite values, found an infinity or a NaN");
  return py::make_tuple(blocks, scales, error.squared_error, error.squared_weight);
}

// ---- the machine's own ceilings ----------------------------------------------------------------------------

double measure_read_bandwidth(int threads, size_t megabytes, double seconds) {
  cpu::Pool pool(threads > 0 ? threads : cpu::usable_cores());
  return cpu::read_bandwidth(cpu::choose_isa(""), pool, megabytes << 20, seconds);
}

double measure_fma_rate(int threads, double seconds) {
  cpu::Pool pool(threads > 0 ? threads : cpu::usable_cores());
  return cpu::fma_rate(cpu::choose_isa(""), pool, seconds);
}

std::optional<double> measure_matrix_rate(int threads, double seconds, bool exact) {
  const auto& kernels = cpu::choose_isa("");
  if (!kernels.matrix_multiply_add || !(kernels.packs_terms(!exact) || (kernels.integers && !exact))) return std::nullopt;
  cpu::Pool pool(threads > 0 ? threads : cpu::usable_cores());
  return cpu::matrix_rate(kernels, pool, seconds);
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The native module of gptoss_native.";
  m.attr("__version__") = build::kVersion;
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const OutOfPages& e) {
      PyErr_SetString(PyExc_MemoryError, e.what());
    }
  });

  m.def("info", &info);
  m.def("register_device", &register_device, py::arg("name"), py::arg("path"));
  m.def("allocated_bytes", &cpu::Memory::allocated);
  m.def("quantize_mxfp4", &quantize, py::arg("weight"));
  m.attr("MAX_BIASES") = kMaxBiases;
  m.attr("DRAWN_BEFORE") = kDrawnBefore;
  m.def("measure_read_bandwidth", &measure_read_bandwidth, py::arg("threads"), py::arg("megabytes"), py::arg("seconds"),
        py::call_guard<py::gil_scoped_release>());
  m.def("measure_fma_rate", &measure_fma_rate, py::arg("threads"), py::arg("seconds"),
        py::call_guard<py::gil_scoped_release>());
  m.def("measure_matrix_rate", &measure_matrix_rate, py::arg("threads"), py::arg("seconds"), py::arg("exact") = false,
        py::call_guard<py::gil_scoped_release>());

  py::class_<Sampling>(m, "Sampling")
      .def(py::init(&to_sampling), py::kw_only(), py::arg("temperature"), py::arg("top_p"), py::arg("seed"), py::arg("index") = 0,
           py::arg("top_k") = 0, py::arg("min_p") = 0.0, py::arg("repetition_penalty") = 1.0, py::arg("presence_penalty") = 0.0,
           py::arg("frequency_penalty") = 0.0, py::arg("logprobs") = -1, py::arg("edits") = py::none(), py::arg("mask") = py::none());

  py::class_<PySession, std::shared_ptr<PySession>>(m, "Session")
      .def_property_readonly("length", [](const PySession& s) { return s.get()->length(); })
      .def("truncate",
           [](PySession& s, int length) {
             const std::shared_ptr<Session> session = s.get();
             const auto engine = s.owner->get();
             py::gil_scoped_release release;
             return engine->truncate(*session, length);
           },
           py::arg("length"))
      .def("close", &PySession::close);

  py::class_<PyWork, std::shared_ptr<PyWork>>(m, "Work")
      .def(py::init([](std::shared_ptr<PySession> session, const Ids& tokens, const std::optional<Ids>& rows,
                       std::optional<Sampling> sampling, std::vector<int32_t> checkpoints) {
             return PyWork{std::move(session), to_ids(tokens, "tokens"), rows ? to_ids(*rows, "rows") : std::vector<int32_t>{},
                           std::move(sampling), std::move(checkpoints)};
           }),
           py::arg("session").none(false), py::arg("tokens"), py::kw_only(), py::arg("rows") = py::none(),
           py::arg("sampling") = py::none(), py::arg("checkpoints") = std::vector<int32_t>());

  py::class_<PyOutput>(m, "Output")
      .def_readonly("token", &PyOutput::token)
      .def_readonly("error", &PyOutput::error)
      .def_readonly("logits", &PyOutput::logits)
      .def_readonly("logprob", &PyOutput::logprob)
      .def_readonly("top_tokens", &PyOutput::top_tokens)
      .def_readonly("top_logprobs", &PyOutput::top_logprobs);

  py::class_<PyStep>(m, "Step");

  py::class_<PyEngine, std::shared_ptr<PyEngine>>(m, "Engine")
      .def(py::init([](const py::dict& config, const std::string& device, const std::string& precision,
                       const std::string& kv_dtype, int threads, int max_context, int max_sequences, int max_tokens, int max_outputs,
                       int64_t max_total_tokens, int max_checkpoints, int max_observed, const std::string& dense) {
             auto self = std::make_shared<PyEngine>();
             if (threads < 0 || threads > 1024) refuse("threads: expected 0 (the usable cores) to 1024, found " + std::to_string(threads));
             const BackendOptions options{.precision = to_precision(precision), .kv_dtype = to_kv_dtype(kv_dtype),
                                          .dense = to_dense(dense), .threads = threads, .isa = ""};
             const EngineLimits limits{.max_context = max_context,
                                       .max_sequences = max_sequences,
                                       .max_total_tokens = max_total_tokens,
                                       .max_tokens = max_tokens,
                                       .max_outputs = max_outputs,
                                       .max_checkpoints = max_checkpoints,
                                       .max_observed = max_observed};
             self->engine = std::make_shared<LoadedEngine>(to_config(config), limits, create_backend(device, options));
             return self;
           }),
           py::arg("config"), py::kw_only(), py::arg("device"), py::arg("precision"), py::arg("kv_dtype"), py::arg("threads"),
           py::arg("max_context"), py::arg("max_sequences"), py::arg("max_tokens"), py::arg("max_outputs"),
           py::arg("max_total_tokens") = 0, py::arg("max_checkpoints") = 32, py::arg("max_observed") = 0, py::arg("dense") = "bf16")
      .def("load_layer",
           [](PyEngine& self, int index, const NamedArrays& tensors) {
             const auto engine = self.get();
             const HostLayer layer = to_layer(index, tensors);
             {
               py::gil_scoped_release release;
               engine->load(layer);
             }
             for (const auto& [name, array] : tensors) engine->arrays.push_back(array);
           },
           py::arg("index"), py::arg("tensors"))
      .def("load_ends",
           [](PyEngine& self, const NamedArrays& tensors) {
             const auto engine = self.get();
             const HostEnds ends = to_ends(tensors);
             {
               py::gil_scoped_release release;
               engine->load(ends);
             }
             for (const auto& [name, array] : tensors) engine->arrays.push_back(array);
           },
           py::arg("tensors"))
      .def("start",
           [](PyEngine& self) {
             const auto engine = self.get();
             py::gil_scoped_release release;
             engine->start();
           })
      .def("session",
           [](std::shared_ptr<PyEngine> self, const std::optional<Ids>& tokens) {
             const std::vector<int32_t> ids = tokens ? to_ids(*tokens, "tokens") : std::vector<int32_t>{};
             const auto engine = self->get();
             std::shared_ptr<Session> session;
             {
               py::gil_scoped_release release;
               session = engine->session(ids);
             }
             return std::make_shared<PySession>(self, std::move(session));
           },
           py::arg("tokens") = py::none())
      .def("touch",
           [](PyEngine& self, const Ids& tokens) {
             const std::vector<int32_t> ids = to_ids(tokens, "tokens");
             const auto engine = self.get();
             py::gil_scoped_release release;
             engine->touch(ids);
           },
           py::arg("tokens"))
      .def("checkpoint",
           [](PyEngine& self, const PySession& session) {
             if (session.owner.get() != &self) refuse("a session of another engine");
             const auto engine = self.get();
             const auto held = session.get();
             py::gil_scoped_release release;
             engine->checkpoint(*held);
           },
           py::arg("session").none(false))
      .def("step", &step, py::arg("work"), py::arg("interrupted") = py::none())
      .def("submit", &submit, py::arg("work"), py::arg("interrupted") = py::none(), py::arg("after") = nullptr)
      .def("collect", &collect, py::arg("step"), py::arg("interrupted") = py::none(), py::arg("dropped") = std::vector<bool>())
      .def("observe", &observe, py::arg("work"), py::arg("fields"))
      .def("run_stages", &run_stages, py::arg("stages"), py::arg("layer"), py::arg("work"), py::arg("write"), py::arg("read"))
      .def_property_readonly("device", &device_facts)
      .def_property_readonly("runs_ahead", [](const PyEngine& self) { return self.get()->runs_ahead(); })
      .def_property_readonly("max_tokens", [](const PyEngine& self) { return self.get()->limits().max_tokens; })
      .def_property_readonly("max_edits", [](const PyEngine& self) { return self.get()->max_edits(); })
      .def_property_readonly("max_outputs", [](const PyEngine& self) { return self.get()->limits().max_outputs; })
      .def_property_readonly("pages", [](const PyEngine& self) { return self.get()->pages(); })
      .def_property_readonly("free_pages", [](const PyEngine& self) { return self.get()->free_pages(); })
      .def("close", [](PyEngine& self) { self.engine.reset(); });

  bind_ops(m);
}
