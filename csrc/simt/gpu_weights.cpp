// load: a layer's weights in one block of device memory, in the form that the kernels read.
#include <algorithm>
#include <atomic>

#include "../numeric.h"
#include "gpu_backend.h"

namespace gptoss::simt {
namespace {

std::atomic<uint64_t> loaded{0};

void copy_in(void* to, const void* from, size_t bytes, const char* what) {
  check(GPU(Memcpy)(to, from, bytes, GPU(MemcpyHostToDevice)), std::string("loading ") + what);
}

// A copy may return before it arrived. Not the whole device: another engine may be capturing a graph on it, which no
// synchronisation of the device survives.
void wait_for_copies() { check(GPU(StreamSynchronize)(nullptr), "loading weights"); }

void copy_floats(float* to, const uint16_t* bf16, size_t count, const char* what) {
  std::vector<float> values(count);
  std::transform(bf16, bf16 + count, values.begin(), gptoss::bf16_to_float);
  copy_in(to, values.data(), count * sizeof(float), what);
}
void copy_floats(float* to, const Tensor& from, const char* what) { copy_floats(to, from.bf16(), from.count(), what); }

// Expert by expert from (in, out) to (out, in), so that a warp reads a row.
void copy_transposed(uint16_t* to, const uint16_t* from, int experts, int rows, int k) {
  std::vector<uint16_t> turned(static_cast<size_t>(rows) * k);
  for (int e = 0; e < experts; ++e, to += turned.size(), from += turned.size()) {
    for (int i = 0; i < k; ++i)
      for (int r = 0; r < rows; ++r) turned[static_cast<size_t>(r) * k + i] = from[static_cast<size_t>(i) * rows + r];
    copy_in(to, turned.data(), turned.size() * sizeof(uint16_t), "experts");
  }
}

struct ExpertPlaces {
  uint32_t* blocks = nullptr;
  uint8_t* scales = nullptr;
  uint16_t* dense = nullptr;
  float* bias = nullptr;
};

void arrange(Arena& arena, const ExpertWeights& host, ExpertPlaces& to) {
  if (host.dense.empty()) {
    arena.take(to.blocks, host.blocks.bytes() / sizeof(uint32_t));
    arena.take(to.scales, host.scales.count());
  } else {
    arena.take(to.dense, host.dense.count());
  }
  arena.take(to.bias, host.bias.count());
}

ExpertArgs copy_experts(const ExpertPlaces& to, const ExpertWeights& host, int experts, int rows, int k) {
  if (host.dense.empty()) {
    copy_in(to.blocks, host.blocks.data, host.blocks.bytes(), "experts");
    copy_in(to.scales, host.scales.data, host.scales.bytes(), "experts");
  } else {
    copy_transposed(to.dense, host.dense.bf16(), experts, rows, k);
  }
  copy_floats(to.bias, host.bias, "experts");
  return {.blocks = to.blocks, .scales = to.scales, .dense = to.dense, .bias = to.bias, .rows = rows, .k = k};
}

constexpr int kLargestHeadDim = 128;

}  // namespace

std::unique_ptr<Layer> GpuBackend::load(const Config& c, const HostLayer& host) {
  if (c.head_dim > kLargestHeadDim)
    throw std::invalid_argument("device " + facts().name + ": head_dim is at most " +
                                std::to_string(kLargestHeadDim) + ", found " + std::to_string(c.head_dim));
  use_device();
  auto layer = std::make_unique<GpuLayer>();
  ExpertPlaces gate_up, down;
  const auto arrange_all = [&](uint8_t* base) {
    Arena arena(base);
    arena.take(layer->qkv, host.q_proj_weight.count() + host.k_proj_weight.count() + host.v_proj_weight.count());
    arena.take(layer->qkv_bias, host.q_proj_bias.count() + host.k_proj_bias.count() + host.v_proj_bias.count());
    arena.take(layer->o, host.o_proj_weight.count());
    arena.take(layer->o_bias, host.o_proj_bias.count());
    arena.take(layer->router, host.router_weight.count());
    arena.take(layer->router_bias, host.router_bias.count());
    arena.take(layer->input_layernorm, host.input_layernorm.count());
    arena.take(layer->post_attention_layernorm, host.post_attention_layernorm.count());
    arena.take(layer->sinks, host.sinks.count());
    arrange(arena, host.gate_up_proj, gate_up);
    arrange(arena, host.down_proj, down);
    return arena.used();
  };
  layer->memory = DeviceMemory(arrange_all(nullptr), ("weights of layer " + std::to_string(host.index)).c_str());
  arrange_all(layer->memory.data());

  uint16_t* qkv = layer->qkv;
  for (const Tensor* part : {&host.q_proj_weight, &host.k_proj_weight, &host.v_proj_weight}) {
    copy_in(qkv, part->data, part->bytes(), "qkv");
    qkv += part->count();
  }
  float* bias = layer->qkv_bias;
  for (const Tensor* part : {&host.q_proj_bias, &host.k_proj_bias, &host.v_proj_bias}) {
    copy_floats(bias, *part, "qkv");
    bias += part->count();
  }
  copy_in(layer->o, host.o_proj_weight.data, host.o_proj_weight.bytes(), "o_proj");
  copy_floats(layer->o_bias, host.o_proj_bias, "o_proj");
  copy_in(layer->router, host.router_weight.data, host.router_weight.bytes(), "the router");
  copy_floats(layer->router_bias, host.router_bias, "the router");
  copy_floats(layer->input_layernorm, host.input_layernorm, "norms");
  copy_floats(layer->post_attention_layernorm, host.post_attention_layernorm, "norms");
  copy_floats(layer->sinks, host.sinks, "sinks");
  layer->gate_up =
      copy_experts(gate_up, host.gate_up_proj, c.num_local_experts, 2 * c.intermediate_size, c.hidden_size);
  layer->down = copy_experts(down, host.down_proj, c.num_local_experts, c.hidden_size, c.intermediate_size);
  wait_for_copies();
  layer->id = ++loaded;
  return layer;
}

std::unique_ptr<Ends> GpuBackend::load(const Config&, const HostEnds& host) {
  use_device();
  auto ends = std::make_unique<GpuEnds>();
  const auto arrange_all = [&](uint8_t* base) {
    Arena arena(base);
    arena.take(ends->embed_tokens, host.embed_tokens.count());
    arena.take(ends->lm_head, host.lm_head.count());
    arena.take(ends->norm, host.norm.count());
    return arena.used();
  };
  ends->memory = DeviceMemory(arrange_all(nullptr), "embedding and head");
  arrange_all(ends->memory.data());
  copy_in(ends->embed_tokens, host.embed_tokens.data, host.embed_tokens.bytes(), "the embedding");
  copy_in(ends->lm_head, host.lm_head.data, host.lm_head.bytes(), "the head");
  copy_floats(ends->norm, host.norm, "the last norm");
  wait_for_copies();
  ends->id = ++loaded;
  return ends;
}

}  // namespace gptoss::simt
