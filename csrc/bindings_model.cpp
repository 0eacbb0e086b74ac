// Python's values as the data of the model: names of choices, a config, the tensors of a layer.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <vector>

#include "bindings.h"

namespace py = pybind11;

namespace gptoss {
namespace {

template <class T>
T field(const py::dict& data, const char* name) {
  if (!data.contains(name)) refuse(std::string("config: ") + name + " is missing");
  try {
    return data[name].cast<T>();
  } catch (const py::cast_error&) {
    refuse(std::string("config: ") + name + " has a wrong type or is too large: " + py::repr(data[name]).cast<std::string>());
  }
}

Tensor to_tensor(const std::string& name, const py::array& array) {
  Tensor t;
  if (array.dtype().is(py::dtype::of<uint8_t>())) {
    t.dtype = DType::u8;
  } else if (array.dtype().is(py::dtype::of<uint16_t>())) {
    t.dtype = DType::bf16;
  } else {
    refuse(name + ": expected uint8, or uint16 holding bf16, found " + py::str(array.dtype()).cast<std::string>());
  }
  if (array.ndim() > 4) refuse(name + ": expected at most 4 dimensions, found " + std::to_string(array.ndim()));
  if (!(array.flags() & py::array::c_style)) refuse(name + ": expected a C-contiguous array");
  t.rank = static_cast<int>(array.ndim());
  for (int i = 0; i < t.rank; ++i) t.shape[i] = array.shape(i);
  t.data = array.data();
  return t;
}

Tensor find(const NamedArrays& arrays, const std::string& name) {
  const auto it = arrays.find(name);
  return it == arrays.end() ? Tensor{} : to_tensor(name, it->second);
}

ExpertWeights experts(const NamedArrays& arrays, const std::string& name) {
  return {find(arrays, name + "_blocks"), find(arrays, name + "_scales"), find(arrays, name), find(arrays, name + "_bias")};
}

}  // namespace

Precision to_precision(const std::string& name) {
  if (name == "exact") return Precision::exact;
  if (name == "fast") return Precision::fast;
  refuse("precision is 'exact' or 'fast', found '" + name + "'");
}

KvDType to_kv_dtype(const std::string& name) {
  if (name == "bf16") return KvDType::bf16;
  if (name == "f32") return KvDType::f32;
  refuse("kv_dtype is 'bf16' or 'f32', found '" + name + "'");
}

Dense to_dense(const std::string& name) {
  if (name == "bf16") return Dense::bf16;
  if (name == "int8") return Dense::int8;
  refuse("dense is 'bf16' or 'int8', found '" + name + "'");
}

Config to_config(const py::dict& data) {
  Config c;
  c.num_hidden_layers = field<int>(data, "num_hidden_layers");
  c.num_local_experts = field<int>(data, "num_local_experts");
  c.num_experts_per_tok = field<int>(data, "num_experts_per_tok");
  c.hidden_size = field<int>(data, "hidden_size");
  c.intermediate_size = field<int>(data, "intermediate_size");
  c.head_dim = field<int>(data, "head_dim");
  c.num_attention_heads = field<int>(data, "num_attention_heads");
  c.num_key_value_heads = field<int>(data, "num_key_value_heads");
  c.vocab_size = field<int>(data, "vocab_size");
  for (const auto& type : field<std::vector<std::string>>(data, "layer_types")) {
    if (type != "full_attention" && type != "sliding_attention") refuse("config: unknown layer type '" + type + "'");
    c.layer_types.push_back(type == "full_attention" ? LayerType::full_attention : LayerType::sliding_attention);
  }
  c.sliding_window = field<int>(data, "sliding_window");
  c.max_position_embeddings = field<int>(data, "max_position_embeddings");
  c.rope_theta = field<double>(data, "rope_theta");
  const auto scaling = field<py::dict>(data, "rope_scaling");
  c.rope_scaling.yarn = field<std::string>(scaling, "rope_type") == "yarn";
  c.rope_scaling.factor = field<double>(scaling, "factor");
  c.rope_scaling.beta_fast = field<double>(scaling, "beta_fast");
  c.rope_scaling.beta_slow = field<double>(scaling, "beta_slow");
  c.rope_scaling.original_max_position_embeddings = field<int>(scaling, "original_max_position_embeddings");
  c.rope_scaling.truncate = field<bool>(scaling, "truncate");
  c.rms_norm_eps = field<float>(data, "rms_norm_eps");
  c.swiglu_limit = field<float>(data, "swiglu_limit");
  c.swiglu_alpha = field<float>(data, "swiglu_alpha");
  return c;
}

HostLayer to_layer(int index, const NamedArrays& a) {
  HostLayer l;
  l.index = index;
  l.input_layernorm = find(a, "input_layernorm");
  l.q_proj_weight = find(a, "q_proj_weight");
  l.q_proj_bias = find(a, "q_proj_bias");
  l.k_proj_weight = find(a, "k_proj_weight");
  l.k_proj_bias = find(a, "k_proj_bias");
  l.v_proj_weight = find(a, "v_proj_weight");
  l.v_proj_bias = find(a, "v_proj_bias");
  l.sinks = find(a, "sinks");
  l.o_proj_weight = find(a, "o_proj_weight");
  l.o_proj_bias = find(a, "o_proj_bias");
  l.post_attention_layernorm = find(a, "post_attention_layernorm");
  l.router_weight = find(a, "router_weight");
  l.router_bias = find(a, "router_bias");
  l.gate_up_proj = experts(a, "gate_up_proj");
  l.down_proj = experts(a, "down_proj");
  return l;
}

HostEnds to_ends(const NamedArrays& a) { return {find(a, "embed_tokens"), find(a, "norm"), find(a, "lm_head")}; }

}  // namespace gptoss
