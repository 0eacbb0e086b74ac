// The model as data: the checkpoint's configuration, its weights as host views, and the same weights as a
// device holds them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tensor.h"

namespace gptoss {

enum class LayerType : uint8_t { full_attention, sliding_attention };

// Fields are those of the Hugging Face config.json.
struct RopeScaling {
  bool yarn = false;  // rope_type "yarn"; otherwise "default": plain RoPE
  double factor = 1;
  double beta_fast = 32;
  double beta_slow = 1;
  int original_max_position_embeddings = 4096;
  bool truncate = false;
};

struct Config {
  int num_hidden_layers = 0;
  int num_local_experts = 0;
  int num_experts_per_tok = 0;
  int hidden_size = 0;
  int intermediate_size = 0;
  int head_dim = 0;
  int num_attention_heads = 0;
  int num_key_value_heads = 0;
  int vocab_size = 0;
  std::vector<LayerType> layer_types;
  int sliding_window = 0;
  int max_position_embeddings = 0;
  double rope_theta = 0;
  RopeScaling rope_scaling;
  float rms_norm_eps = 1e-5f;
  float swiglu_limit = 7.0f;
  float swiglu_alpha = 1.702f;

  int q_size() const { return num_attention_heads * head_dim; }
  int kv_size() const { return num_key_value_heads * head_dim; }
  int group_size() const { return num_attention_heads / num_key_value_heads; }
  int layers_of(LayerType type) const;
};

// Throws std::invalid_argument naming the field, the expectation and the value.
void validate(const Config& config);

// The angle of pair j at position p is float32(p) * inv_freq[j]; cos and sin are then scaled by `concentration`.
struct Rope {
  std::vector<float> inv_freq;  // (head_dim / 2)
  double concentration = 1;
};
Rope make_rope(const Config& config);

// Expert weights (E, out, in) in MXFP4, or (E, in, out) in bf16: the transposed Hugging Face layout.
struct ExpertWeights {
  Tensor blocks;  // u8 (E, out, in / 32, 16)
  Tensor scales;  // u8 (E, out, in / 32)
  Tensor dense;   // bf16 (E, in, out); set instead of blocks and scales
  Tensor bias;    // bf16 (E, out)
};

// One layer as the checkpoint stores it; linear weights are (out, in), all bf16 but the experts.
struct HostLayer {
  int index = 0;
  Tensor input_layernorm;
  Tensor q_proj_weight, q_proj_bias;
  Tensor k_proj_weight, k_proj_bias;
  Tensor v_proj_weight, v_proj_bias;
  Tensor sinks;
  Tensor o_proj_weight, o_proj_bias;
  Tensor post_attention_layernorm;
  Tensor router_weight, router_bias;
  ExpertWeights gate_up_proj;  // out = 2 * intermediate_size, gate and up rows interleaved
  ExpertWeights down_proj;
};

// What stands before the first and after the last layer.
struct HostEnds {
  Tensor embed_tokens;  // (vocab_size, hidden_size)
  Tensor norm;          // (hidden_size)
  Tensor lm_head;       // (vocab_size, hidden_size)
};

// Throws std::invalid_argument when a view does not have the dtype and shape that `config` implies.
void validate(const Config& config, const HostLayer& layer);
void validate(const Config& config, const HostEnds& ends);

// A device's own form of the weights; what is inside is the device's business.
struct Layer {
  int index = 0;
  LayerType type = LayerType::full_attention;
  int cache_index = 0;  // this layer's place among the layers of its type: its slice of a KV page
  virtual ~Layer() = default;
};

struct Ends {
  virtual ~Ends() = default;
};

struct Model {
  Config config;
  std::vector<std::unique_ptr<Layer>> layers;
  std::unique_ptr<Ends> ends;
};

}  // namespace gptoss
