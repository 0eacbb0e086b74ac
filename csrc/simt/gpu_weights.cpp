// load: a layer's weights in one block of device memory, in the form that the kernels read.
#include <algorithm>
#include <atomic>
#include <functional>
#include <map>

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

// Experts (in, out) of the checkpoint as (out, in): rows that a warp reads.
std::vector<uint16_t> transposed(const uint16_t* from, int rows, int k) {
  std::vector<uint16_t> turned(static_cast<size_t>(rows) * k);
  for (int i = 0; i < k; ++i)
    for (int r = 0; r < rows; ++r) turned[static_cast<size_t>(r) * k + i] = from[static_cast<size_t>(i) * rows + r];
  return turned;
}

// Brings matrices to the device: in rows, or by way of a piece of device memory into the order of the matrix kernels.
class Loader {
 public:
  // `map`: where the device reads a tensor of the checkpoint itself; null if it has to be copied.
  using Map = std::function<const void*(const Tensor&)>;
  Loader(const MatrixKernels* matrix, Map map) : matrix_(matrix), map_(std::move(map)) {}

  size_t arranged_bytes(const MatrixShape& shape) const { return matrix_ ? matrix_->bytes(shape) : 0; }

  // In rows: where it lies in the checkpoint, or else in the arena.
  template <class T>
  void take(Arena& arena, const Tensor& host, T*& to) {
    if (const void* place = in_place(host))
      to = static_cast<T*>(const_cast<void*>(place));
    else
      arena.take(to, host.bytes() / sizeof(T));
  }
  template <class T>
  void copy(const Tensor& host, T* to, const char* what) {
    if (!in_place(host)) copy_in(const_cast<std::remove_const_t<T>*>(to), host.data, host.bytes(), what);
  }

  // `whole`: the matrix, if it is one tensor.
  void take(Arena& arena, const MatrixShape& shape, Matrix& to, const Tensor* whole = nullptr) {
    const size_t arranged = arranged_bytes(shape);
    if (arranged > 0)
      arena.take(to.arranged, arranged);
    else if (whole)
      take(arena, *whole, to.rows);
    else
      arena.take(to.rows, static_cast<size_t>(shape.rows) * shape.k);
  }

  // The parts lie one behind the other, as q, k and v do.
  void copy(const MatrixShape& shape, const std::vector<const Tensor*>& parts, const Matrix& to, const char* what) {
    if (!to.arranged && parts.size() == 1) return copy(*parts[0], to.rows, what);
    int first = 0;
    for (const Tensor* part : parts) {
      const int rows = static_cast<int>(part->count() / shape.k);
      copy_rows(shape, {.expert = 0, .first = first, .count = rows, .dense = part->bf16()}, to, what);
      first += rows;
    }
  }

  void take(Arena& arena, const ExpertWeights& host, const MatrixShape& shape, bool arranged, ExpertArgs& to) {
    if (arranged)
      arena.take(to.arranged, arranged_bytes(shape));
    else if (shape.mxfp4)
      take(arena, host.blocks, to.blocks), take(arena, host.scales, to.scales);
    else
      arena.take(to.dense, host.dense.count());
    arena.take(to.bias, host.bias.count());
    to.rows = shape.rows;
    to.k = shape.k;
    to.experts = shape.experts;
  }

  void copy(const ExpertWeights& host, const MatrixShape& shape, const ExpertArgs& to) {
    copy_floats(const_cast<float*>(to.bias), host.bias, "experts");
    if (shape.mxfp4 && !to.arranged) {
      copy(host.blocks, to.blocks, "experts");
      copy(host.scales, to.scales, "experts");
      return;
    }
    const size_t weights = static_cast<size_t>(shape.rows) * shape.k;
    for (int e = 0; e < shape.experts; ++e) {
      MatrixRows rows{.expert = e, .first = 0, .count = shape.rows};
      std::vector<uint16_t> turned;
      if (shape.mxfp4) {
        rows.blocks = static_cast<const uint32_t*>(host.blocks.data) + e * weights / 8;
        rows.scales = static_cast<const uint8_t*>(host.scales.data) + e * weights / 32;
      } else {
        turned = transposed(host.dense.bf16() + e * weights, shape.rows, shape.k);
        rows.dense = turned.data();
      }
      copy_rows(shape, rows,
                {.rows = const_cast<uint16_t*>(to.dense ? to.dense + e * weights : nullptr),
                 .arranged = const_cast<uint8_t*>(to.arranged)},
                "experts");
    }
  }

 private:
  // Of pieces on their way; the largest matrix of the 120b has more than a GB.
  static constexpr size_t kStagingBytes = size_t{64} << 20;

  // `rows` lie on the host.
  void copy_rows(const MatrixShape& shape, MatrixRows rows, const Matrix& to, const char* what) {
    const size_t k = shape.k;
    if (!to.arranged) return copy_in(to.rows + rows.first * k, rows.dense, rows.count * k * sizeof(uint16_t), what);
    const size_t code_bytes = shape.mxfp4 ? k / 2 : k * sizeof(uint16_t), scale_bytes = shape.mxfp4 ? k / 32 : 0;
    const size_t most = std::max<size_t>(kStagingBytes / (code_bytes + scale_bytes), 1);
    for (size_t done = 0; done < static_cast<size_t>(rows.count); done += most) {
      const size_t count = std::min(most, rows.count - done);
      uint8_t* const codes = staging((count * code_bytes + 15) / 16 * 16 + count * scale_bytes);
      uint8_t* const scales = codes + (count * code_bytes + 15) / 16 * 16;
      MatrixRows piece{.expert = rows.expert, .first = rows.first + static_cast<int>(done), .count = static_cast<int>(count)};
      if (shape.mxfp4) {
        copy_in(codes, rows.blocks + done * k / 8, count * code_bytes, what);
        copy_in(scales, rows.scales + done * k / 32, count * scale_bytes, what);
        piece.blocks = reinterpret_cast<const uint32_t*>(codes);
        piece.scales = scales;
      } else {
        copy_in(codes, rows.dense + done * k, count * code_bytes, what);
        piece.dense = reinterpret_cast<const uint16_t*>(codes);
      }
      matrix_->arrange(shape, piece, to.arranged, nullptr);  // the stream of the copies: the next piece waits for it
    }
  }
  const void* in_place(const Tensor& host) {  // asked once for each
    const auto [known, is_new] = places_.try_emplace(host.data, nullptr);
    if (is_new) known->second = map_(host);
    return known->second;
  }
  uint8_t* staging(size_t bytes) {
    if (staging_.bytes() < bytes) {
      wait_for_copies();  // the piece that is replaced may be read still
      staging_ = DeviceMemory(bytes, "weights on their way");
    }
    return staging_.data();
  }

  const MatrixKernels* matrix_;
  Map map_;
  std::map<const void*, const void*> places_;
  DeviceMemory staging_;
};

constexpr int kLargestHeadDim = 128;

struct LayerShapes {
  MatrixShape qkv, o, router, gate_up, down;
  LayerShapes(const Config& c, const HostLayer& host)
      : qkv{Use::qkv, 1, c.q_size() + 2 * c.kv_size(), c.hidden_size, false, c.head_dim},
        o{Use::attn_out, 1, c.hidden_size, c.q_size(), false},
        router{Use::router, 1, c.num_local_experts, c.hidden_size, false},
        gate_up{Use::gate_up, c.num_local_experts, 2 * c.intermediate_size, c.hidden_size, host.gate_up_proj.dense.empty()},
        down{Use::down, c.num_local_experts, c.hidden_size, c.intermediate_size, host.down_proj.dense.empty()} {}

 private:
  using Use = MatrixShape::Use;
};
MatrixShape head_shape(const Config& c) { return {MatrixShape::Use::unembed, 1, c.vocab_size, c.hidden_size, false}; }

// What is taken of the arena: where everything of a layer, or of the ends, comes to lie.
void take(Arena& arena, Loader& loader, const LayerShapes& shapes, const HostLayer& host, GpuLayer& layer) {
  const bool experts = loader.arranged_bytes(shapes.gate_up) > 0 && loader.arranged_bytes(shapes.down) > 0;
  loader.take(arena, shapes.qkv, layer.qkv);
  arena.take(layer.qkv_bias, shapes.qkv.rows);
  loader.take(arena, shapes.o, layer.o, &host.o_proj_weight);
  arena.take(layer.o_bias, shapes.o.rows);
  loader.take(arena, shapes.router, layer.router, &host.router_weight);
  arena.take(layer.router_bias, shapes.router.rows);
  arena.take(layer.input_layernorm, host.input_layernorm.count());
  arena.take(layer.post_attention_layernorm, host.post_attention_layernorm.count());
  arena.take(layer.sinks, host.sinks.count());
  loader.take(arena, host.gate_up_proj, shapes.gate_up, experts, layer.gate_up);
  loader.take(arena, host.down_proj, shapes.down, experts, layer.down);
}
void take(Arena& arena, Loader& loader, const Config& c, const HostEnds& host, GpuEnds& ends) {
  loader.take(arena, host.embed_tokens, ends.embed_tokens);
  loader.take(arena, head_shape(c), ends.lm_head, &host.lm_head);
  arena.take(ends.norm, host.norm.count());
}

// Tensors that a checkpoint with MXFP4 experts has, without their contents.
Tensor of_shape(DType dtype, int64_t a, int64_t b = 1, int64_t c = 1) {
  return {.data = nullptr, .dtype = dtype, .rank = 3, .shape = {a, b, c}};
}
ExpertWeights experts_of(int experts, int rows, int k) {
  ExpertWeights weights;
  weights.blocks = of_shape(DType::u8, experts, rows, k / 2);
  weights.scales = of_shape(DType::u8, experts, rows, k / 32);
  weights.bias = of_shape(DType::bf16, experts, rows);
  return weights;
}
HostLayer layer_of(const Config& c) {
  HostLayer layer;
  layer.input_layernorm = layer.post_attention_layernorm = of_shape(DType::bf16, c.hidden_size);
  layer.sinks = of_shape(DType::bf16, c.num_attention_heads);
  layer.o_proj_weight = of_shape(DType::bf16, c.hidden_size, c.q_size());
  layer.router_weight = of_shape(DType::bf16, c.num_local_experts, c.hidden_size);
  layer.gate_up_proj = experts_of(c.num_local_experts, 2 * c.intermediate_size, c.hidden_size);
  layer.down_proj = experts_of(c.num_local_experts, c.hidden_size, c.intermediate_size);
  return layer;
}
HostEnds ends_of(const Config& c) {
  HostEnds ends;
  ends.embed_tokens = ends.lm_head = of_shape(DType::bf16, c.vocab_size, c.hidden_size);
  ends.norm = of_shape(DType::bf16, c.hidden_size);
  return ends;
}

}  // namespace

size_t GpuBackend::weight_bytes(const Config& c) const {
  if (loaded_bytes_ > 0) return loaded_bytes_;
  static const char place = 0;  // of what the device reads where it lies in the checkpoint
  Loader loader(matrix_.get(), [&](const Tensor&) { return maps_tensors() ? &place : nullptr; });
  GpuLayer layer;
  GpuEnds ends;
  const HostLayer host = layer_of(c);
  Arena of_layer(nullptr), of_ends(nullptr);
  take(of_layer, loader, LayerShapes(c, host), host, layer);
  take(of_ends, loader, c, ends_of(c), ends);
  return c.num_hidden_layers * of_layer.used() + of_ends.used();
}

std::unique_ptr<Layer> GpuBackend::load(const Config& c, const HostLayer& host) {
  if (c.head_dim > kLargestHeadDim)
    throw std::invalid_argument("device " + facts().name + ": head_dim is at most " +
                                std::to_string(kLargestHeadDim) + ", found " + std::to_string(c.head_dim));
  use_device();
  auto layer = std::make_unique<GpuLayer>();
  Loader loader(matrix_.get(), [&](const Tensor& tensor) { return map(tensor, layer->mappings); });
  const LayerShapes shapes(c, host);
  const auto arrange_all = [&](uint8_t* base) {
    Arena arena(base);
    take(arena, loader, shapes, host, *layer);
    return arena.used();
  };
  layer->memory = DeviceMemory(arrange_all(nullptr), ("weights of layer " + std::to_string(host.index)).c_str());
  arrange_all(layer->memory.data());
  loaded_bytes_ += layer->memory.bytes();

  loader.copy(shapes.qkv, {&host.q_proj_weight, &host.k_proj_weight, &host.v_proj_weight}, layer->qkv, "qkv");
  float* bias = layer->qkv_bias;
  for (const Tensor* part : {&host.q_proj_bias, &host.k_proj_bias, &host.v_proj_bias}) {
    copy_floats(bias, *part, "qkv");
    bias += part->count();
  }
  loader.copy(shapes.o, {&host.o_proj_weight}, layer->o, "o_proj");
  copy_floats(layer->o_bias, host.o_proj_bias, "o_proj");
  loader.copy(shapes.router, {&host.router_weight}, layer->router, "the router");
  copy_floats(layer->router_bias, host.router_bias, "the router");
  copy_floats(layer->input_layernorm, host.input_layernorm, "norms");
  copy_floats(layer->post_attention_layernorm, host.post_attention_layernorm, "norms");
  copy_floats(layer->sinks, host.sinks, "sinks");
  loader.copy(host.gate_up_proj, shapes.gate_up, layer->gate_up);
  loader.copy(host.down_proj, shapes.down, layer->down);
  wait_for_copies();
  layer->id = ++loaded;
  return layer;
}

std::unique_ptr<Ends> GpuBackend::load(const Config& c, const HostEnds& host) {
  use_device();
  auto ends = std::make_unique<GpuEnds>();
  Loader loader(matrix_.get(), [&](const Tensor& tensor) { return map(tensor, ends->mappings); });
  const auto arrange_all = [&](uint8_t* base) {
    Arena arena(base);
    take(arena, loader, c, host, *ends);
    return arena.used();
  };
  ends->memory = DeviceMemory(arrange_all(nullptr), "embedding and head");
  arrange_all(ends->memory.data());
  loaded_bytes_ += ends->memory.bytes();
  loader.copy(host.embed_tokens, ends->embed_tokens, "the embedding");
  loader.copy(head_shape(c), {&host.lm_head}, ends->lm_head, "the head");
  copy_floats(ends->norm, host.norm, "the last norm");
  wait_for_copies();
  ends->id = ++loaded;
  return ends;
}

}  // namespace gptoss::simt
