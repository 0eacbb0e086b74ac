#include "model.h"

#include <initializer_list>
#include <stdexcept>

namespace gptoss {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void at_least(const char* field, int64_t value, int64_t least) {
  if (value < least)
    refuse("config: " + std::string(field) + " must be at least " + std::to_string(least) + ", found " + std::to_string(value));
}

void multiple_of(const char* field, int value, int factor) {
  if (value % factor != 0)
    refuse("config: " + std::string(field) + " must be a multiple of " + std::to_string(factor) + ", found " + std::to_string(value));
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::u8: return "U8";
    case DType::bf16: return "BF16";
    case DType::f32: return "F32";
    case DType::i32: return "I32";
  }
  return "?";
}

std::string describe(DType dtype, const int64_t* shape, size_t rank) {
  std::string text = std::string(name_of(dtype)) + " (";
  for (size_t i = 0; i < rank; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

struct Checker {
  std::string where;

  void operator()(const char* name, const Tensor& tensor, DType dtype, std::initializer_list<int64_t> shape) const {
    const std::string wanted = describe(dtype, shape.begin(), shape.size());
    if (tensor.empty()) refuse(where + name + ": expected " + wanted + ", found nothing");
    bool same = tensor.dtype == dtype && tensor.rank == static_cast<int>(shape.size());
    for (size_t i = 0; same && i < shape.size(); ++i) same = tensor.shape[i] == shape.begin()[i];
    if (!same)
      refuse(where + name + ": expected " + wanted + ", found " +
             describe(tensor.dtype, tensor.shape.data(), static_cast<size_t>(tensor.rank)));
  }

  void experts(const char* name, const ExpertWeights& weights, int64_t count, int64_t out, int64_t in) const {
    const std::string base = name;
    (*this)((base + "_bias").c_str(), weights.bias, DType::bf16, {count, out});
    if (!weights.dense.empty()) {
      (*this)(name, weights.dense, DType::bf16, {count, in, out});
    } else {
      (*this)((base + "_blocks").c_str(), weights.blocks, DType::u8, {count, out, in / 32, 16});
      (*this)((base + "_scales").c_str(), weights.scales, DType::u8, {count, out, in / 32});
    }
  }
};

}  // namespace

int Config::layers_of(LayerType type) const {
  int n = 0;
  for (LayerType t : layer_types) n += t == type;
  return n;
}

void validate(const Config& c) {
  at_least("num_hidden_layers", c.num_hidden_layers, 1);
  at_least("num_local_experts", c.num_local_experts, 1);
  at_least("num_experts_per_tok", c.num_experts_per_tok, 1);
  at_least("num_local_experts (num_experts_per_tok experts are chosen)", c.num_local_experts, c.num_experts_per_tok);
  at_least("hidden_size", c.hidden_size, 32);
  multiple_of("hidden_size", c.hidden_size, 32);
  at_least("intermediate_size", c.intermediate_size, 32);
  multiple_of("intermediate_size", c.intermediate_size, 32);
  at_least("head_dim", c.head_dim, 2);
  multiple_of("head_dim", c.head_dim, 2);
  at_least("num_key_value_heads", c.num_key_value_heads, 1);
  at_least("num_attention_heads", c.num_attention_heads, 1);
  multiple_of("num_attention_heads (groups share a key/value head)", c.num_attention_heads, c.num_key_value_heads);
  at_least("vocab_size", c.vocab_size, 1);
  at_least("sliding_window", c.sliding_window, 1);
  at_least("max_position_embeddings", c.max_position_embeddings, 1);
  if (static_cast<int>(c.layer_types.size()) != c.num_hidden_layers)
    refuse("config: layer_types must name " + std::to_string(c.num_hidden_layers) + " layers, found " +
           std::to_string(c.layer_types.size()));
}

void validate(const Config& c, const HostLayer& l) {
  const Checker check{"layer " + std::to_string(l.index) + ", "};
  const int64_t h = c.hidden_size, q = c.q_size(), kv = c.kv_size(), e = c.num_local_experts, i = c.intermediate_size;
  const DType bf16 = DType::bf16;
  check("input_layernorm", l.input_layernorm, bf16, {h});
  check("q_proj_weight", l.q_proj_weight, bf16, {q, h});
  check("q_proj_bias", l.q_proj_bias, bf16, {q});
  check("k_proj_weight", l.k_proj_weight, bf16, {kv, h});
  check("k_proj_bias", l.k_proj_bias, bf16, {kv});
  check("v_proj_weight", l.v_proj_weight, bf16, {kv, h});
  check("v_proj_bias", l.v_proj_bias, bf16, {kv});
  check("sinks", l.sinks, bf16, {c.num_attention_heads});
  check("o_proj_weight", l.o_proj_weight, bf16, {h, q});
  check("o_proj_bias", l.o_proj_bias, bf16, {h});
  check("post_attention_layernorm", l.post_attention_layernorm, bf16, {h});
  check("router_weight", l.router_weight, bf16, {e, h});
  check("router_bias", l.router_bias, bf16, {e});
  check.experts("gate_up_proj", l.gate_up_proj, e, 2 * i, h);
  check.experts("down_proj", l.down_proj, e, h, i);
}

void validate(const Config& c, const HostEnds& ends) {
  const Checker check{""};
  check("embed_tokens", ends.embed_tokens, DType::bf16, {c.vocab_size, c.hidden_size});
  check("norm", ends.norm, DType::bf16, {c.hidden_size});
  check("lm_head", ends.lm_head, DType::bf16, {c.vocab_size, c.hidden_size});
}

}  // namespace gptoss
