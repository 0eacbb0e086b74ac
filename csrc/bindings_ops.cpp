// The kernels one by one: arrays of the host and of devices, over DLPack too, and the operations on them. What is
// an argument's shape and what is wrong with it, gptoss_native.ops says; here is checked what memory needs.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <mutex>
#include <numeric>
#include <optional>

#include "backends.h"
#include "bindings.h"
#include "dlpack.h"
#include "engine.h"

namespace py = pybind11;

namespace gptoss {
namespace {

struct Element {
  const char* name;
  dlpack::DataType type;
  const char* numpy;  // bf16 is uint16 there
};
constexpr Element kElements[] = {{"float32", {dlpack::kFloat, 32, 1}, "float32"},
                                 {"bfloat16", {dlpack::kBfloat, 16, 1}, "uint16"},
                                 {"int32", {dlpack::kInt, 32, 1}, "int32"},
                                 {"uint8", {dlpack::kUInt, 8, 1}, "uint8"},
                                 {"uint32", {dlpack::kUInt, 32, 1}, "uint32"}};

const Element& element_named(const std::string& name) {
  for (const Element& e : kElements)
    if (name == e.name) return e;
  refuse("expected a dtype of float32, bfloat16, int32, uint8 or uint32, found " + name);
}

// A device with its kernels. What uses its stream takes its turn; the GIL is released meanwhile.
struct Lab {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Ops> ops;
  std::mutex mutex;
};
using LabPointer = std::shared_ptr<Lab>;

// A contiguous array somewhere, and what keeps its memory alive.
struct Array {
  uint8_t* data = nullptr;
  const Element* element = nullptr;
  std::vector<py::ssize_t> shape;
  MemoryPlace place;
  std::shared_ptr<void> owner;
  LabPointer lab;           // whose memory it is; null: somebody else's
  StreamHandle stream = 0;  // in which it is being written; 0: it is ready

  size_t count() const {
    size_t n = 1;
    for (py::ssize_t size : shape) n *= static_cast<size_t>(size);
    return n;
  }
  size_t bytes() const { return count() * element->type.bits / 8; }
  bool on_host() const { return place.type == 1; }
};
using ArrayPointer = std::shared_ptr<Array>;

std::shared_ptr<void> keep(py::object object) {
  return {new py::object(std::move(object)), [](void* held) {
            py::gil_scoped_acquire gil;
            delete static_cast<py::object*>(held);
          }};
}

ArrayPointer from_numpy(const py::array& array) {
  auto result = std::make_shared<Array>();
  const std::string dtype = py::str(array.dtype()).cast<std::string>();
  for (const Element& e : kElements)
    if (dtype == e.numpy) result->element = &e;
  if (!result->element) refuse("expected float32, uint16 (the bits of bfloat16), int32, uint32 or uint8, found " + dtype);
  if (!(array.flags() & py::array::c_style)) refuse("expected a C-contiguous array; numpy.ascontiguousarray makes one");
  result->data = static_cast<uint8_t*>(const_cast<void*>(array.data()));
  result->shape.assign(array.shape(), array.shape() + array.ndim());
  result->owner = keep(array);
  return result;
}

ArrayPointer from_dlpack(const py::capsule& capsule) {
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!managed) throw py::error_already_set();
  const dlpack::Tensor& t = managed->tensor;
  auto result = std::make_shared<Array>();
  for (const Element& e : kElements)
    if (e.type.code == t.dtype.code && e.type.bits == t.dtype.bits && t.dtype.lanes == 1) result->element = &e;
  if (t.dtype.code == dlpack::kUInt && t.dtype.bits == 16) result->element = &element_named("bfloat16");  // as in numpy
  if (!result->element)
    refuse("expected float32, bfloat16, int32, uint32 or uint8, found DLPack type code " + std::to_string(t.dtype.code) +
           " with " + std::to_string(t.dtype.bits) + " bits");
  int64_t stride = 1;
  for (int i = t.rank - 1; i >= 0; --i) {
    if (t.strides && t.shape[i] != 1 && t.strides[i] != stride) refuse("expected a contiguous array; .contiguous() makes one");
    stride *= t.shape[i];
  }
  result->data = static_cast<uint8_t*>(t.data) + t.byte_offset;
  result->shape.assign(t.shape, t.shape + t.rank);
  result->place = {t.device.type, t.device.index};
  if (PyCapsule_SetName(capsule.ptr(), "used_dltensor") != 0) throw py::error_already_set();
  result->owner = {managed, [](void* held) {
                     py::gil_scoped_acquire gil;  // what the producer gives back may be a Python object
                     auto* tensor = static_cast<dlpack::ManagedTensor*>(held);
                     if (tensor->deleter) tensor->deleter(tensor);
                   }};
  return result;
}

ArrayPointer empty(const LabPointer& lab, std::vector<py::ssize_t> shape, const std::string& dtype) {
  auto result = std::make_shared<Array>();
  result->element = &element_named(dtype);
  result->shape = std::move(shape);
  result->lab = lab;
  result->place = lab->ops->place();
  std::shared_ptr<void> memory = lab->ops->allocate(result->bytes());
  result->data = static_cast<uint8_t*>(memory.get());
  result->owner = {memory.get(), [lab, memory](void*) {}};  // the device outlives its memory
  return result;
}

ArrayPointer upload(const LabPointer& lab, const Array& host, StreamHandle stream) {
  if (!host.on_host()) refuse("expected an array of the host");
  ArrayPointer result = empty(lab, host.shape, host.element->name);
  py::gil_scoped_release release;
  const std::lock_guard lock(lab->mutex);
  lab->ops->copy_in(result->data, host.data, host.bytes(), stream);
  return result;
}

// The array as numpy sees it: the same memory where the host can read it, else a copy.
py::array to_numpy(const ArrayPointer& array, const LabPointer& reader) {
  if (array->on_host())
    return py::array(py::dtype(array->element->numpy), array->shape, array->data, py::cast(array));
  const LabPointer& lab = array->lab ? array->lab : reader;
  if (!lab) refuse("this array lies on a device that is not open");
  py::array result(py::dtype(array->element->numpy), array->shape);
  void* to = result.mutable_data();
  {
    py::gil_scoped_release release;
    const std::lock_guard lock(lab->mutex);
    lab->ops->copy_out(to, array->data, array->bytes(), array->stream ? array->stream : lab->ops->stream());
  }
  return result;
}

// The consumer's stream: what it does next waits for what writes the array.
py::capsule to_dlpack(const ArrayPointer& array, const std::optional<int64_t>& stream) {
  if (array->stream && stream.value_or(1) != -1 && !array->on_host()) {
    const auto consumer = static_cast<StreamHandle>(stream.value_or(1));  // 1: the default stream of old
    if (consumer != array->stream) {
      py::gil_scoped_release release;
      const std::lock_guard lock(array->lab->mutex);
      array->lab->ops->order(array->stream, consumer);
    }
  }
  struct Exported {
    dlpack::ManagedTensor managed;
    ArrayPointer array;
    std::vector<int64_t> shape;
  };
  auto* e = new Exported{{}, array, {array->shape.begin(), array->shape.end()}};
  e->managed = {.tensor = {.data = array->data,
                           .device = {array->place.type, array->place.index},
                           .rank = static_cast<int32_t>(e->shape.size()),
                           .dtype = array->element->type,
                           .shape = e->shape.data(),
                           .strides = nullptr,
                           .byte_offset = 0},
                .context = e,
                .deleter = [](dlpack::ManagedTensor* self) { delete static_cast<Exported*>(self->context); }};
  return py::capsule(&e->managed, "dltensor", [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // its consumer calls the deleter
    auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    managed->deleter(managed);
  });
}

// ---- operations --------------------------------------------------------------------------------------------

// A prepared operation, and the arrays that it reads and writes.
struct PyOperation {
  LabPointer lab;
  std::vector<ArrayPointer> arrays;
  StreamHandle stream;
  std::unique_ptr<Operation> operation;
};

// Checks operands as they are asked for: this device's memory, this many elements of that dtype.
class Operands {
 public:
  Operands(LabPointer lab, StreamHandle stream) : lab_(std::move(lab)), stream_(stream) {}

  template <class T>
  T* get(const char* name, const ArrayPointer& array, const char* dtype, size_t count) {
    if (!array) return nullptr;
    const MemoryPlace here = lab_->ops->place();
    if (array->place.type != here.type || array->place.index != here.index) refuse(std::string(name) + ": lies on another device");
    check(name, *array, dtype, count);
    // Kernels of a GPU load 16 bytes at a time.
    const size_t alignment = array->on_host() ? array->element->type.bits / 8 : 16;
    if (reinterpret_cast<uintptr_t>(array->data) % alignment != 0)
      refuse(std::string(name) + ": expected memory at a multiple of " + std::to_string(alignment) + " bytes; copy the array");
    arrays_.push_back(array);
    return reinterpret_cast<T*>(array->data);
  }
  template <class T>
  const T* host(const char* name, const ArrayPointer& array, const char* dtype, size_t count) {
    if (!array->on_host()) refuse(std::string(name) + ": expected an array of the host");
    check(name, *array, dtype, count);
    arrays_.push_back(array);
    return reinterpret_cast<const T*>(array->data);
  }
  template <class Args>
  std::unique_ptr<PyOperation> make(std::unique_ptr<Operation> (Ops::*prepare)(const Args&, StreamHandle), const Args& args) {
    auto made = std::make_unique<PyOperation>();
    made->stream = stream_;
    {
      py::gil_scoped_release release;
      const std::lock_guard lock(lab_->mutex);
      made->operation = (lab_->ops.get()->*prepare)(args, stream_);
    }
    made->lab = std::move(lab_);
    made->arrays = std::move(arrays_);
    return made;
  }

 private:
  static void check(const char* name, const Array& array, const char* dtype, size_t count) {
    if (std::string(array.element->name) != dtype || array.count() != count)
      refuse(std::string(name) + ": expected " + std::to_string(count) + " elements of " + dtype + ", found " +
             std::to_string(array.count()) + " of " + array.element->name);
  }
  LabPointer lab_;
  StreamHandle stream_;
  std::vector<ArrayPointer> arrays_;
};

size_t product(std::initializer_list<int64_t> sizes) {
  int64_t n = 1;
  for (int64_t size : sizes) {
    if (size < 1 || size > INT32_MAX) refuse("expected sizes of at least 1 that fit 32 bits, found " + std::to_string(size));
    n *= size;
  }
  return static_cast<size_t>(n);
}

using Prepared = std::unique_ptr<PyOperation>;

Prepared linear(const LabPointer& lab, const ArrayPointer& x, const ArrayPointer& weight, const ArrayPointer& bias,
                const ArrayPointer& y, int tokens, int rows, int k, StreamHandle stream) {
  Operands in(lab, stream);
  return in.make(&Ops::linear, LinearOp{.x = in.get<float>("x", x, "float32", product({tokens, k})),
                                        .weight = in.get<uint16_t>("weight", weight, "bfloat16", product({rows, k})),
                                        .bias = in.get<uint16_t>("bias", bias, "bfloat16", product({rows})),
                                        .y = in.get<float>("y", y, "float32", product({tokens, rows})),
                                        .tokens = tokens,
                                        .rows = rows,
                                        .k = k});
}

Mxfp4Experts experts_of(Operands& in, const ArrayPointer& blocks, const ArrayPointer& scales, const ArrayPointer& bias,
                        int experts, int rows, int k) {
  if (k % 32 != 0) refuse("k: expected a multiple of 32, found " + std::to_string(k));
  return {.blocks = in.get<uint8_t>("blocks", blocks, "uint8", product({experts, rows, k / 32, 16})),
          .scales = in.get<uint8_t>("scales", scales, "uint8", product({experts, rows, k / 32})),
          .bias = in.get<uint16_t>("bias", bias, "bfloat16", product({experts, rows})),
          .experts = experts,
          .rows = rows,
          .k = k};
}

Prepared moe_up(const LabPointer& lab, const ArrayPointer& x, const ArrayPointer& blocks, const ArrayPointer& scales,
                const ArrayPointer& bias, const ArrayPointer& choice, const ArrayPointer& y, int tokens, int chosen,
                int experts, int rows, int k, float limit, float alpha, StreamHandle stream) {
  if (rows % 64 != 0) refuse("rows: expected a multiple of 64 (gate and up of 32 neurons), found " + std::to_string(rows));
  Operands in(lab, stream);
  return in.make(&Ops::moe_up, MoeUpOp{.x = in.get<float>("x", x, "float32", product({tokens, k})),
                                       .experts = experts_of(in, blocks, scales, bias, experts, rows, k),
                                       .choice = in.get<int32_t>("choice", choice, "int32", product({tokens, chosen})),
                                       .y = in.get<float>("y", y, "float32", product({tokens, chosen, rows / 2})),
                                       .tokens = tokens,
                                       .chosen = chosen,
                                       .limit = limit,
                                       .alpha = alpha});
}

Prepared moe_down(const LabPointer& lab, const ArrayPointer& h, const ArrayPointer& blocks, const ArrayPointer& scales,
                  const ArrayPointer& bias, const ArrayPointer& choice, const ArrayPointer& weight, const ArrayPointer& y,
                  int tokens, int chosen, int experts, int rows, int k, StreamHandle stream) {
  if (!weight && chosen != 1) refuse("weight: expected one for each choice");
  Operands in(lab, stream);
  return in.make(&Ops::moe_down,
                 MoeDownOp{.h = in.get<float>("h", h, "float32", product({tokens, chosen, k})),
                           .experts = experts_of(in, blocks, scales, bias, experts, rows, k),
                           .choice = in.get<int32_t>("choice", choice, "int32", product({tokens, chosen})),
                           .weight = in.get<float>("weight", weight, "float32", product({tokens, chosen})),
                           .y = in.get<float>("y", y, "float32", product({tokens, rows})),
                           .tokens = tokens,
                           .chosen = chosen});
}

Prepared attention(const LabPointer& lab, const ArrayPointer& q, const ArrayPointer& k, const ArrayPointer& v,
                   const ArrayPointer& sinks, const ArrayPointer& attn, const ArrayPointer& lse,
                   const std::vector<int32_t>& query_counts, const std::vector<int32_t>& key_counts, int heads,
                   int kv_heads, int head_dim, int window, StreamHandle stream) {
  bool fits = !query_counts.empty() && query_counts.size() == key_counts.size() && window >= 0 && kv_heads >= 1 &&
              heads % kv_heads == 0 && head_dim % 2 == 0 && head_dim <= 128;
  for (size_t i = 0; fits && i < query_counts.size(); ++i) fits = query_counts[i] >= 1 && key_counts[i] >= query_counts[i];
  const int64_t tokens = std::accumulate(query_counts.begin(), query_counts.end(), int64_t{0});
  const int64_t keys = std::accumulate(key_counts.begin(), key_counts.end(), int64_t{0});
  if (!fits) refuse("attention: sizes that do not fit together");
  Operands in(lab, stream);
  return in.make(&Ops::attention,
                 AttentionOp{.q = in.get<float>("q", q, "float32", product({tokens, heads, head_dim})),
                             .k = in.get<float>("k", k, "float32", product({keys, kv_heads, head_dim})),
                             .v = in.get<float>("v", v, "float32", product({keys, kv_heads, head_dim})),
                             .sinks = in.get<uint16_t>("sinks", sinks, "bfloat16", product({heads})),
                             .attn = in.get<float>("attn", attn, "float32", product({tokens, heads, head_dim})),
                             .lse = in.get<float>("lse", lse, "float32", product({tokens, heads})),
                             .query_counts = query_counts.data(),
                             .key_counts = key_counts.data(),
                             .sequences = static_cast<int>(query_counts.size()),
                             .tokens = static_cast<int>(tokens),
                             .keys = static_cast<int>(keys),
                             .heads = heads,
                             .kv_heads = kv_heads,
                             .head_dim = head_dim,
                             .window = window});
}

Prepared rms_norm(const LabPointer& lab, const ArrayPointer& x, const ArrayPointer& gain, const ArrayPointer& y,
                  int tokens, int size, float eps, StreamHandle stream) {
  Operands in(lab, stream);
  return in.make(&Ops::rms_norm, NormOp{.x = in.get<float>("x", x, "float32", product({tokens, size})),
                                        .gain = in.get<uint16_t>("gain", gain, "bfloat16", product({size})),
                                        .y = in.get<float>("y", y, "float32", product({tokens, size})),
                                        .tokens = tokens,
                                        .size = size,
                                        .eps = eps});
}

Prepared rope(const LabPointer& lab, const ArrayPointer& x, const ArrayPointer& position, const ArrayPointer& inv_freq,
              double concentration, const ArrayPointer& y, int tokens, int heads, int head_dim, StreamHandle stream) {
  if (head_dim % 2 != 0) refuse("head_dim: expected an even number, found " + std::to_string(head_dim));
  Operands in(lab, stream);
  const int32_t* positions = in.host<int32_t>("position", position, "int32", product({tokens}));
  if (*std::min_element(positions, positions + tokens) < 0) refuse("position: expected numbers from 0");
  return in.make(&Ops::rope, RopeOp{.x = in.get<float>("x", x, "float32", product({tokens, heads, head_dim})),
                                    .position = positions,
                                    .inv_freq = in.host<float>("inv_freq", inv_freq, "float32", product({head_dim / 2})),
                                    .concentration = concentration,
                                    .y = in.get<float>("y", y, "float32", product({tokens, heads, head_dim})),
                                    .tokens = tokens,
                                    .heads = heads,
                                    .head_dim = head_dim});
}

Prepared route(const LabPointer& lab, const ArrayPointer& logits, const ArrayPointer& choice, const ArrayPointer& weight,
               int tokens, int experts, int chosen, StreamHandle stream) {
  if (chosen > experts) refuse("chosen: expected at most as many as there are experts");
  Operands in(lab, stream);
  return in.make(&Ops::route, RouteOp{.logits = in.get<float>("logits", logits, "float32", product({tokens, experts})),
                                      .choice = in.get<int32_t>("choice", choice, "int32", product({tokens, chosen})),
                                      .weight = in.get<float>("weight", weight, "float32", product({tokens, chosen})),
                                      .tokens = tokens,
                                      .experts = experts,
                                      .chosen = chosen});
}

Prepared swiglu(const LabPointer& lab, const ArrayPointer& u, const ArrayPointer& y, int tokens, int size, float limit,
                float alpha, StreamHandle stream) {
  if (size % 32 != 0) refuse("size: expected a multiple of 32, found " + std::to_string(size));
  Operands in(lab, stream);
  return in.make(&Ops::swiglu, SwigluOp{.u = in.get<float>("u", u, "float32", product({tokens, size, 2})),
                                        .y = in.get<float>("y", y, "float32", product({tokens, size})),
                                        .tokens = tokens,
                                        .size = size,
                                        .limit = limit,
                                        .alpha = alpha});
}

Prepared dequantize(const LabPointer& lab, const ArrayPointer& blocks, const ArrayPointer& scales, const ArrayPointer& y,
                    int rows, int k, StreamHandle stream) {
  Operands in(lab, stream);
  const Mxfp4Experts weight = experts_of(in, blocks, scales, nullptr, 1, rows, k);
  return in.make(&Ops::dequantize, DequantizeOp{.blocks = weight.blocks,
                                                .scales = weight.scales,
                                                .y = in.get<float>("y", y, "float32", product({rows, k})),
                                                .rows = rows,
                                                .k = k});
}

Prepared sample(const LabPointer& lab, const ArrayPointer& logits, const std::vector<Sampling>& sampling,
                const std::vector<int32_t>& positions, const ArrayPointer& next_token, const ArrayPointer& logprob,
                const ArrayPointer& top_token, const ArrayPointer& top_logprob, int rows, int vocab, StreamHandle stream) {
  if (sampling.size() != static_cast<size_t>(rows) || positions.size() != sampling.size())
    refuse("sampling, positions: expected one for each row");
  const size_t words = (static_cast<size_t>(vocab) + 31) / 32;
  std::vector<SampleParams> params;
  std::vector<TokenEdit> edits;
  std::vector<uint32_t> masks;
  for (const Sampling& s : sampling) {
    for (const TokenEdit& edit : s.edits)
      if (edit.token < 0 || edit.token >= vocab) refuse("edits: expected token ids below " + std::to_string(vocab));
    if (!s.mask.empty() && s.mask.size() != words)
      refuse("mask: expected " + std::to_string(words) + " words, found " + std::to_string(s.mask.size()));
    add_draw(s, static_cast<int32_t>(params.size()), words, params, edits, masks);
  }
  const size_t top = product({rows, kMaxLogprobs});
  Operands in(lab, stream);
  return in.make(&Ops::sample, SampleOp{.logits = in.get<float>("logits", logits, "float32", product({rows, vocab})),
                                        .params = params.data(),
                                        .position = positions.data(),
                                        .edits = edits.data(),
                                        .masks = masks.data(),
                                        .next_token = in.get<int32_t>("next_token", next_token, "int32", product({rows})),
                                        .logprob = in.get<float>("logprob", logprob, "float32", product({rows})),
                                        .top_token = in.get<int32_t>("top_token", top_token, "int32", top),
                                        .top_logprob = in.get<float>("top_logprob", top_logprob, "float32", top),
                                        .rows = rows,
                                        .vocab = vocab,
                                        .edit_count = static_cast<int>(edits.size()),
                                        .mask_count = static_cast<int>(masks.size() / words)});
}

LabPointer open(const std::string& device, const std::string& precision, const std::string& kv_dtype, int threads,
                const std::string& isa) {
  if (threads < 0 || threads > 1024) refuse("threads: expected 0 (the usable cores) to 1024, found " + std::to_string(threads));
  BackendOptions options;
  options.precision = to_precision(precision);
  options.kv_dtype = to_kv_dtype(kv_dtype);
  options.threads = threads;
  options.isa = isa;
  auto lab = std::make_shared<Lab>();
  lab->backend = create_backend(device, options);
  lab->ops = lab->backend->ops();
  if (!lab->ops) refuse("device " + device + " does not offer its kernels one by one");
  return lab;
}

std::vector<double> time(const LabPointer& lab, const std::vector<PyOperation*>& operations, int rounds) {
  std::vector<Operation*> inner;
  for (PyOperation* operation : operations) {
    if (operation->lab != lab || operation->stream != lab->ops->stream()) refuse("an operation of another device or stream");
    inner.push_back(operation->operation.get());
  }
  py::gil_scoped_release release;
  const std::lock_guard lock(lab->mutex);
  return lab->ops->time(inner, rounds);
}

py::tuple rope_table(int head_dim, double theta, bool yarn, double factor, double beta_fast, double beta_slow,
                     int original_max_position_embeddings, bool truncate) {
  Config c;
  c.head_dim = head_dim;
  c.rope_theta = theta;
  c.rope_scaling = {yarn, factor, beta_fast, beta_slow, original_max_position_embeddings, truncate};
  const Rope rope = make_rope(c);
  return py::make_tuple(py::array_t<float>(static_cast<py::ssize_t>(rope.inv_freq.size()), rope.inv_freq.data()), rope.concentration);
}

}  // namespace

void bind_ops(py::module_& m) {
  m.def("rope_table", &rope_table, py::arg("head_dim"), py::kw_only(), py::arg("theta"), py::arg("yarn"), py::arg("factor"),
        py::arg("beta_fast"), py::arg("beta_slow"), py::arg("original_max_position_embeddings"), py::arg("truncate"));

  py::class_<Array, ArrayPointer>(m, "Array")
      .def_static("from_numpy", &from_numpy, py::arg("array"))
      .def_static("from_dlpack", &from_dlpack, py::arg("capsule"))
      .def_property_readonly("shape", [](const Array& a) { return py::tuple(py::cast(a.shape)); })
      .def_property_readonly("dtype", [](const Array& a) { return a.element->name; })
      .def_property_readonly("on_host", &Array::on_host)
      .def_property_readonly("address", [](const Array& a) { return reinterpret_cast<uintptr_t>(a.data); })
      .def("written_in", [](Array& a, StreamHandle stream) { a.stream = stream; }, py::arg("stream"))
      .def("numpy", [](const ArrayPointer& a) { return to_numpy(a, nullptr); })
      .def("__dlpack__",
           [](const ArrayPointer& a, const std::optional<int64_t>& stream, const py::object&, const py::object&,
              const py::object&) { return to_dlpack(a, stream); },
           py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
           py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def("__dlpack_device__", [](const Array& a) { return py::make_tuple(a.place.type, a.place.index); });

  py::class_<PyOperation>(m, "Operation")
      .def("run",
           [](PyOperation& self) {
             py::gil_scoped_release release;
             const std::lock_guard lock(self.lab->mutex);
             self.operation->run();
           })
      .def("finish", [](PyOperation& self) {
        py::gil_scoped_release release;
        const std::lock_guard lock(self.lab->mutex);
        self.operation->finish();
      });

  const auto stream = py::arg("stream");
  py::class_<Lab, LabPointer>(m, "Lab")
      .def(py::init(&open), py::arg("device"), py::kw_only(), py::arg("precision"), py::arg("kv_dtype"),
           py::arg("threads") = 0, py::arg("isa") = "")
      .def_property_readonly("name", [](const Lab& lab) { return lab.backend->facts().name; })
      .def_property_readonly("detail", [](const Lab& lab) { return lab.backend->facts().detail; })
      .def_property_readonly("threads", [](const Lab& lab) { return lab.backend->facts().threads; })
      .def_property_readonly("place", [](const Lab& lab) {
        const MemoryPlace place = lab.ops->place();
        return py::make_tuple(place.type, place.index);
      })
      .def_property_readonly("stream", [](const Lab& lab) { return lab.ops->stream(); })
      .def("wait",
           [](const LabPointer& lab, StreamHandle which) {
             py::gil_scoped_release release;
             lab->ops->wait(which);
           },
           stream)
      .def("empty", &empty, py::arg("shape"), py::arg("dtype"))
      .def("upload", [](const LabPointer& lab, const Array& host, StreamHandle which) { return upload(lab, host, which); },
           py::arg("array"), stream)
      .def("download", [](const LabPointer& lab, const ArrayPointer& array) { return to_numpy(array, lab); }, py::arg("array"))
      .def("linear", &linear, py::arg("x"), py::arg("weight"), py::arg("bias"), py::arg("y"), py::arg("tokens"),
           py::arg("rows"), py::arg("k"), stream)
      .def("moe_up", &moe_up, py::arg("x"), py::arg("blocks"), py::arg("scales"), py::arg("bias"), py::arg("choice"),
           py::arg("y"), py::arg("tokens"), py::arg("chosen"), py::arg("experts"), py::arg("rows"), py::arg("k"),
           py::arg("limit"), py::arg("alpha"), stream)
      .def("moe_down", &moe_down, py::arg("h"), py::arg("blocks"), py::arg("scales"), py::arg("bias"), py::arg("choice"),
           py::arg("weight"), py::arg("y"), py::arg("tokens"), py::arg("chosen"), py::arg("experts"), py::arg("rows"),
           py::arg("k"), stream)
      .def("attention", &attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("sinks"), py::arg("attn"),
           py::arg("lse"), py::arg("query_counts"), py::arg("key_counts"), py::arg("heads"), py::arg("kv_heads"),
           py::arg("head_dim"), py::arg("window"), stream)
      .def("rms_norm", &rms_norm, py::arg("x"), py::arg("gain"), py::arg("y"), py::arg("tokens"), py::arg("size"),
           py::arg("eps"), stream)
      .def("rope", &rope, py::arg("x"), py::arg("position"), py::arg("inv_freq"), py::arg("concentration"), py::arg("y"),
           py::arg("tokens"), py::arg("heads"), py::arg("head_dim"), stream)
      .def("route", &route, py::arg("logits"), py::arg("choice"), py::arg("weight"), py::arg("tokens"), py::arg("experts"),
           py::arg("chosen"), stream)
      .def("swiglu", &swiglu, py::arg("u"), py::arg("y"), py::arg("tokens"), py::arg("size"), py::arg("limit"),
           py::arg("alpha"), stream)
      .def("dequantize", &dequantize, py::arg("blocks"), py::arg("scales"), py::arg("y"), py::arg("rows"), py::arg("k"), stream)
      .def("sample", &sample, py::arg("logits"), py::arg("sampling"), py::arg("positions"), py::arg("next_token"),
           py::arg("logprob"), py::arg("top_token"), py::arg("top_logprob"), py::arg("rows"), py::arg("vocab"), stream)
      .def("time", &time, py::arg("operations"), py::arg("rounds"))
      .def("read_bandwidth",
           [](const LabPointer& lab, size_t bytes, double seconds) {
             const std::lock_guard lock(lab->mutex);
             return lab->ops->read_bandwidth(bytes, seconds);
           },
           py::arg("bytes"), py::arg("seconds"), py::call_guard<py::gil_scoped_release>())
      .def("fma_rate",
           [](const LabPointer& lab, double seconds) {
             const std::lock_guard lock(lab->mutex);
             return lab->ops->fma_rate(seconds);
           },
           py::arg("seconds"), py::call_guard<py::gil_scoped_release>())
      .def("matrix_rate",
           [](const LabPointer& lab, double seconds) {
             const std::lock_guard lock(lab->mutex);
             return lab->ops->matrix_rate(seconds);
           },
           py::arg("seconds"), py::call_guard<py::gil_scoped_release>());
}

}  // namespace gptoss
