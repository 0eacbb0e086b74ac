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

// A matrix as the checkpoint has it: where the device reads it in place, or else a copy.
template <class T>
class Matrix {
 public:
  Matrix() = default;
  Matrix(const Tensor& host, const void* in_place)
      : host_(&host), mapped_(in_place != nullptr), place_(static_cast<T*>(const_cast<void*>(in_place))) {}
  void take(Arena& arena) {
    if (host_ && !mapped_) arena.take(place_, host_->bytes() / sizeof(T));
  }
  T* copy(const char* what) {
    if (host_ && !mapped_) copy_in(place_, host_->data, host_->bytes(), what);
    return place_;
  }

 private:
  const Tensor* host_ = nullptr;
  bool mapped_ = false;
  T* place_ = nullptr;
};

struct ExpertPlaces {
  Matrix<uint32_t> blocks;
  Matrix<uint8_t> scales;
  uint16_t* dense = nullptr;
  float* bias = nullptr;
};

void arrange(Arena& arena, const ExpertWeights& host, ExpertPlaces& to) {
  to.blocks.take(arena);
  to.scales.take(arena);
  if (!host.dense.empty()) arena.take(to.dense, host.dense.count());
  arena.take(to.bias, host.bias.count());
}

ExpertArgs copy_experts(ExpertPlaces& to, const ExpertWeights& host, int experts, int rows, int k) {
  const uint32_t* blocks = to.blocks.copy("experts");
  const uint8_t* scales = to.scales.copy("experts");
  if (!host.dense.empty()) copy_transposed(to.dense, host.dense.bf16(), experts, rows, k);
  copy_floats(to.bias, host.bias, "experts");
  return {.blocks = blocks, .scales = scales, .dense = to.dense, .bias = to.bias, .rows = rows, .k = k};
}

constexpr int kLargestHeadDim = 128;

}  // namespace

std::unique_ptr<Layer> GpuBackend::load(const Config& c, const HostLayer& host) {
  if (c.head_dim > kLargestHeadDim)
    throw std::invalid_argument("device " + facts().name + ": head_dim is at most " +
                                std::to_string(kLargestHeadDim) + ", found " + std::to_string(c.head_dim));
  use_device();
  auto layer = std::make_unique<GpuLayer>();
  const auto in_place = [&](const Tensor& tensor) { return map(tensor, layer->mappings); };
  Matrix<uint16_t> o(host.o_proj_weight, in_place(host.o_proj_weight));
  Matrix<uint16_t> router(host.router_weight, in_place(host.router_weight));
  ExpertPlaces gate_up, down;
  for (auto& [to, from] : {std::pair(&gate_up, &host.gate_up_proj), std::pair(&down, &host.down_proj)}) {
    if (!from->dense.empty()) continue;
    to->blocks = {from->blocks, in_place(from->blocks)};
    to->scales = {from->scales, in_place(from->scales)};
  }
  const auto arrange_all = [&](uint8_t* base) {
    Arena arena(base);
    arena.take(layer->qkv, host.q_proj_weight.count() + host.k_proj_weight.count() + host.v_proj_weight.count());
    arena.take(layer->qkv_bias, host.q_proj_bias.count() + host.k_proj_bias.count() + host.v_proj_bias.count());
    o.take(arena);
    arena.take(layer->o_bias, host.o_proj_bias.count());
    router.take(arena);
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
  layer->o = o.copy("o_proj");
  copy_floats(layer->o_bias, host.o_proj_bias, "o_proj");
  layer->router = router.copy("the router");
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
  Matrix<uint16_t> embed_tokens(host.embed_tokens, map(host.embed_tokens, ends->mappings));
  Matrix<uint16_t> lm_head(host.lm_head, map(host.lm_head, ends->mappings));
  const auto arrange_all = [&](uint8_t* base) {
    Arena arena(base);
    embed_tokens.take(arena);
    lm_head.take(arena);
    arena.take(ends->norm, host.norm.count());
    return arena.used();
  };
  ends->memory = DeviceMemory(arrange_all(nullptr), "embedding and head");
  arrange_all(ends->memory.data());
  ends->embed_tokens = embed_tokens.copy("the embedding");
  ends->lm_head = lm_head.copy("the head");
  copy_floats(ends->norm, host.norm, "the last norm");
  wait_for_copies();
  ends->id = ++loaded;
  return ends;
}

}  // namespace gptoss::simt
