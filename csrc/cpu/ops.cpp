// The kernels one by one: each operation is a stage, or a part of one, over a state whose inputs and outputs are
// the caller's memory.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

#include "../numeric.h"
#include "../quantize.h"
#include "../ragged.h"
#include "backend.h"
#include "ceilings.h"
#include "packed.h"
#include "routing.h"

namespace gptoss::cpu {
namespace {

// One layer whose every size is the smallest; operations set those that they mean.
Config small_config() {
  Config c;
  c.num_hidden_layers = c.num_local_experts = c.num_experts_per_tok = 1;
  c.num_attention_heads = c.num_key_value_heads = c.vocab_size = 1;
  c.hidden_size = c.intermediate_size = kPackGroup;
  c.head_dim = 2;
  c.layer_types = {LayerType::full_attention};
  c.sliding_window = 1;
  c.max_position_embeddings = 1;
  c.rope_theta = 10000;
  return c;
}

Limits limits_of(int tokens) {
  return {.max_context = 1, .max_sequences = 1, .max_tokens = tokens, .max_outputs = 1, .max_edits = 0,
          .max_kept = 0, .pages = 0};
}

constexpr uint8_t kNothing[1] = {};

Tensor view(const void* data, DType dtype, std::initializer_list<int64_t> shape) {
  Tensor t{.data = data ? data : kNothing, .dtype = dtype, .rank = static_cast<int>(shape.size()), .shape = {}};
  std::copy(shape.begin(), shape.end(), t.shape.begin());
  return t;
}

// A layer of which only what an operation sets is there.
HostLayer empty_layer() {
  const Tensor matrix = view(nullptr, DType::bf16, {0, 0}), vector = view(nullptr, DType::bf16, {0});
  HostLayer l;
  l.input_layernorm = l.post_attention_layernorm = l.sinks = vector;
  l.q_proj_weight = l.k_proj_weight = l.v_proj_weight = l.o_proj_weight = l.router_weight = matrix;
  l.q_proj_bias = l.k_proj_bias = l.v_proj_bias = l.o_proj_bias = l.router_bias = vector;
  l.gate_up_proj = l.down_proj = {.blocks = matrix, .scales = matrix, .dense = {}, .bias = vector};
  return l;
}

struct CpuOperation : Operation {
  std::unique_ptr<CpuState> s;
  std::unique_ptr<Layer> layer;
  CpuEnds ends;
  Batch batch{};
  std::vector<uint16_t> no_bias;
  std::vector<float> ones, floats;
  std::vector<int32_t> zeros;
  std::function<void()> body, after;

  void run() override { body(); }
  void finish() override {
    if (after) after();
  }
  const uint16_t* bias_or_zeros(const uint16_t* bias, size_t count) {
    if (bias) return bias;
    no_bias.assign(count, 0);
    return no_bias.data();
  }
};
using Made = std::unique_ptr<CpuOperation>;

}  // namespace

class CpuOps : public Ops {
 public:
  explicit CpuOps(CpuBackend& device) : device_(device) {}

  MemoryPlace place() const override { return {1, 0}; }
  std::shared_ptr<void> allocate(size_t bytes) override {
    void* block = std::aligned_alloc(64, round_up(std::max<size_t>(bytes, 1), 64));
    if (!block) throw std::bad_alloc();
    return {block, std::free};
  }
  void copy_in(void* to, const void* from, size_t bytes, StreamHandle) override { std::memcpy(to, from, bytes); }
  void copy_out(void* to, const void* from, size_t bytes, StreamHandle) override { std::memcpy(to, from, bytes); }
  StreamHandle stream() override { return 0; }
  void order(StreamHandle, StreamHandle) override {}
  void wait(StreamHandle) override {}

  std::unique_ptr<Operation> linear(const LinearOp& a, StreamHandle) override {
    Config c = small_config();
    c.hidden_size = a.rows;
    c.head_dim = a.k;  // o_proj of one head
    HostLayer host = empty_layer();
    Made op = make(c, limits_of(a.tokens));
    host.o_proj_weight = view(a.weight, DType::bf16, {a.rows, a.k});
    host.o_proj_bias = view(op->bias_or_zeros(a.bias, a.rows), DType::bf16, {a.rows});
    op->layer = device_.load(c, host);
    op->batch.tokens = a.tokens;
    op->s->attn = const_cast<float*>(a.x);
    op->s->residual = a.y;
    return with_body(std::move(op), [this, a](CpuOperation& o) {
      std::memset(a.y, 0, sizeof(float) * a.tokens * a.rows);  // attn_out adds to the residual
      device_.attn_out(*o.s, *o.layer, o.batch);
    });
  }

  std::unique_ptr<Operation> moe_up(const MoeUpOp& a, StreamHandle) override {
    const int pairs = a.tokens * a.chosen, neurons = a.experts.rows / 2;
    Config c = expert_config(a.experts, a.chosen);
    c.hidden_size = a.experts.k;
    c.intermediate_size = neurons;
    c.swiglu_limit = a.limit;
    c.swiglu_alpha = a.alpha;
    Made op = make_experts(c, a.tokens, a.experts, a.choice, pairs);
    CpuState& s = *op->s;
    for (int t = 0; t < a.tokens; ++t) {
      s.packed_rows[t] = s.packed + t * s.packed_stride;
      pack(a.x + static_cast<size_t>(t) * a.experts.k, a.experts.k, s.packed + t * s.packed_stride);
    }
    op->after = [this, &s, a, pairs, neurons] {
      for (size_t p = 0; p < static_cast<size_t>(pairs); ++p) unpack(s.expert_h + p * s.h_stride, neurons, a.y + p * neurons);
    };
    return with_body(std::move(op), [this](CpuOperation& o) { device_.moe_up(*o.s, *o.layer, o.batch); });
  }

  std::unique_ptr<Operation> moe_down(const MoeDownOp& a, StreamHandle) override {
    const int pairs = a.tokens * a.chosen, k = a.experts.k;
    Config c = expert_config(a.experts, a.chosen);
    c.hidden_size = a.experts.rows;
    c.intermediate_size = k;
    Made op = make_experts(c, a.tokens, a.experts, a.choice, pairs);
    CpuState& s = *op->s;
    for (size_t p = 0; p < static_cast<size_t>(pairs); ++p) pack(a.h + p * k, k, s.expert_h + p * s.h_stride);
    op->ones.assign(a.weight ? 0 : pairs, 1.0f);
    s.router_weight = a.weight ? const_cast<float*>(a.weight) : op->ones.data();
    s.residual = a.y;
    return with_body(std::move(op), [this, a](CpuOperation& o) {
      std::memset(a.y, 0, sizeof(float) * a.tokens * a.experts.rows);
      device_.moe_down(*o.s, *o.layer, o.batch);
    });
  }

  std::unique_ptr<Operation> attention(const AttentionOp& a, StreamHandle) override {
    constexpr int kChunk = 512;  // keys appended at a time
    Config c = small_config();
    c.num_attention_heads = a.heads;
    c.num_key_value_heads = a.kv_heads;
    c.head_dim = a.head_dim;
    if (a.window > 0) {
      c.layer_types = {LayerType::sliding_attention};
      c.sliding_window = a.window;
    }
    Limits limits = limits_of(step_tokens(a, kChunk));
    limits.max_context = longest(a);
    limits.max_sequences = a.sequences;
    limits.pages = page_count(a);
    HostLayer host = empty_layer();
    host.sinks = view(a.sinks, DType::bf16, {a.heads});
    Made op = make(c, limits);
    op->layer = device_.load(c, host);
    op->layer->type = c.layer_types[0];
    CpuState& s = *op->s;
    const std::vector<int32_t> tables = page_tables(a, limits.table_pages());
    std::copy(tables.begin(), tables.end(), s.full_pages);
    std::copy(tables.begin(), tables.end(), s.window_pages);
    prepare_angles(*op, limits.max_tokens, nullptr);
    for (const Segment& segment : cached_segments(a, kChunk)) append(*op, a, {segment}, false);
    append(*op, a, query_segments(a), true);
    op->batch = {.tokens = a.tokens, .sequences = a.sequences, .rows = 0, .samples = 0};
    device_.embed(s, op->ends, op->batch);  // finds the tiles of queries
    s.attn = a.attn;
    s.lse = a.lse;
    return with_body(std::move(op), [this](CpuOperation& o) { device_.attn(*o.s, *o.layer, o.batch); });
  }

  std::unique_ptr<Operation> rms_norm(const NormOp& a, StreamHandle) override {
    Config c = small_config();
    c.hidden_size = a.size;
    c.rms_norm_eps = a.eps;
    Made op = make(c, limits_of(a.tokens));
    CpuState& s = *op->s;
    s.residual = const_cast<float*>(a.x);
    for (int i = 0; i < a.size; ++i) op->floats.push_back(bf16_to_float(a.gain[i]));
    op->after = [this, &s, a] {
      for (size_t t = 0; t < static_cast<size_t>(a.tokens); ++t) unpack(s.packed_rows[t], a.size, a.y + t * a.size);
    };
    return with_body(std::move(op), [this, a](CpuOperation& o) { device_.norm(*o.s, o.floats, {nullptr, a.tokens}); });
  }

  std::unique_ptr<Operation> rope(const RopeOp& a, StreamHandle) override {
    Config c = small_config();
    c.num_attention_heads = a.heads;
    c.head_dim = a.head_dim;
    c.num_key_value_heads = 1;
    Limits limits = limits_of(a.tokens);
    limits.max_context = *std::max_element(a.position, a.position + a.tokens) + 1;
    Made op = make(c, limits);
    CpuState& s = *op->s;
    s.rope = {{a.inv_freq, a.inv_freq + a.head_dim / 2}, a.concentration};
    prepare_angles(*op, a.tokens, a.position);
    s.config.num_key_value_heads = 0;  // queries only: nothing is appended
    s.qkv = a.y;
    op->layer = std::make_unique<CpuLayer>();
    return with_body(std::move(op), [this, a](CpuOperation& o) {
      std::memcpy(a.y, a.x, sizeof(float) * a.tokens * a.heads * a.head_dim);
      device_.rotate_append(*o.s, static_cast<const CpuLayer&>(*o.layer), a.tokens);
    });
  }

  std::unique_ptr<Operation> route(const RouteOp& a, StreamHandle) override {
    return with_body(std::make_unique<CpuOperation>(), [this, a](CpuOperation&) {
      device_.parallel(a.tokens, [&](int t, int) {
        choose(a.logits + static_cast<size_t>(t) * a.experts, a.experts, a.chosen, a.choice + t * a.chosen,
               a.weight + t * a.chosen);
      });
    });
  }

  std::unique_ptr<Operation> swiglu(const SwigluOp& a, StreamHandle) override {
    Made op = std::make_unique<CpuOperation>();
    op->no_bias.assign(2 * static_cast<size_t>(a.size), 0);
    const size_t stride = device_.kernels_.floats(a.size, rounds());
    op->floats.resize(a.tokens * stride);
    float* packed = op->floats.data();
    op->after = [this, packed, stride, a] {
      for (size_t t = 0; t < static_cast<size_t>(a.tokens); ++t) unpack(packed + t * stride, a.size, a.y + t * a.size);
    };
    return with_body(std::move(op), [this, a, packed, stride](CpuOperation& o) {
      device_.parallel(a.tokens, [&](int t, int) {
        device_.kernels_.swiglu_pack(a.u + 2 * static_cast<size_t>(t) * a.size, o.no_bias.data(), a.size, a.limit, a.alpha,
                                     rounds(), packed + t * stride);
      });
    });
  }

  std::unique_ptr<Operation> dequantize(const DequantizeOp& a, StreamHandle) override {
    return with_body(std::make_unique<CpuOperation>(), [this, a](CpuOperation&) {
      const size_t groups = static_cast<size_t>(a.k) / kMxfp4Group;
      device_.parallel(a.rows, [&](int row, int) {
        dequantize_mxfp4(a.blocks + row * groups * kMxfp4GroupBytes, a.scales + row * groups, static_cast<int64_t>(groups),
                         a.y + static_cast<size_t>(row) * a.k);
      });
    });
  }

  std::unique_ptr<Operation> sample(const SampleOp& a, StreamHandle) override {
    Config c = small_config();
    c.vocab_size = a.vocab;
    Limits limits = limits_of(a.rows);
    limits.max_sequences = limits.max_outputs = a.rows;
    limits.max_edits = a.edit_count;
    Made op = make(c, limits);
    CpuState& s = *op->s;
    for (int i = 0; i < a.rows; ++i) {
      s.row[i] = i;
      s.position[i] = a.position[i] - 1;  // of the row's own token
    }
    std::copy_n(a.params, a.rows, s.sampling);
    std::copy_n(a.edits, a.edit_count, s.edits);
    std::copy_n(a.masks, a.mask_count * s.mask_words, s.masks);
    const bool changes = a.edit_count + a.mask_count > 0;  // then logits are changed in place
    if (!changes) s.logits = const_cast<float*>(a.logits);
    s.next_token = a.next_token;
    s.logprob = a.logprob;
    s.top_token = a.top_token;
    s.top_logprob = a.top_logprob;
    op->batch = {.tokens = a.rows, .sequences = a.rows, .rows = a.rows, .samples = a.rows};
    return with_body(std::move(op), [this, a, changes](CpuOperation& o) {
      if (changes) std::memcpy(o.s->logits, a.logits, sizeof(float) * a.rows * a.vocab);
      device_.sample(*o.s, o.ends, o.batch);
    });
  }

  std::vector<double> time(const std::vector<Operation*>& operations, int rounds) override {
    using Clock = std::chrono::steady_clock;
    std::vector<double> seconds;
    for (int i = 0; i < rounds; ++i) {
      const Clock::time_point start = Clock::now();
      for (Operation* operation : operations) operation->run();
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    return seconds;
  }

  double read_bandwidth(size_t bytes, double seconds) override {
    return cpu::read_bandwidth(device_.kernels_, device_.pool_, bytes, seconds);
  }
  double fma_rate(double seconds) override { return cpu::fma_rate(device_.kernels_, device_.pool_, seconds); }
  double matrix_rate(double seconds) override {
    if (device_.kernels_.integers && !rounds()) return 0;
    return cpu::matrix_rate(device_.kernels_, device_.pool_, seconds);
  }

 private:
  Made make(const Config& c, const Limits& limits) {
    Made op = std::make_unique<CpuOperation>();
    op->s.reset(static_cast<CpuState*>(device_.state(c, limits).release()));
    return op;
  }
  template <class Body>
  static std::unique_ptr<Operation> with_body(Made op, const Body& body) {
    op->body = [o = op.get(), body] { body(*o); };
    return op;
  }
  bool rounds() const { return device_.options_.precision == Precision::fast; }
  void pack(const float* x, int n, float* to) const { device_.kernels_.pack(x, nullptr, 1.0f, n, rounds(), to); }
  void unpack(const float* packed, int n, float* to) const {
    for (int i = 0; i < n; ++i) to[i] = packed_at(device_.kernels_, packed, i, rounds());
  }

  static Config expert_config(const Mxfp4Experts& experts, int chosen) {
    Config c = small_config();
    c.num_local_experts = experts.experts;
    c.num_experts_per_tok = chosen;
    return c;
  }
  // An operation with the experts loaded, in both places where a layer has some, and the pairs grouped.
  Made make_experts(const Config& c, int tokens, const Mxfp4Experts& e, const int32_t* choice, int pairs) {
    Made op = make(c, limits_of(tokens));
    HostLayer host = empty_layer();
    const size_t biases = static_cast<size_t>(e.experts) * e.rows;
    host.gate_up_proj = {.blocks = view(e.blocks, DType::u8, {e.experts, e.rows, e.k / kMxfp4Group, kMxfp4GroupBytes}),
                         .scales = view(e.scales, DType::u8, {e.experts, e.rows, e.k / kMxfp4Group}),
                         .dense = {},
                         .bias = view(op->bias_or_zeros(e.bias, biases), DType::bf16, {e.experts, e.rows})};
    host.down_proj = host.gate_up_proj;
    op->layer = device_.load(c, host);
    op->batch.tokens = tokens;
    op->zeros.assign(choice ? 0 : pairs, 0);
    op->s->router_choice = choice ? const_cast<int32_t*>(choice) : op->zeros.data();
    group_by_expert(*op->s, pairs);
    return op;
  }
  // Cosines and sines of the positions; without positions those of no rotation.
  void prepare_angles(CpuOperation& op, int tokens, const int32_t* position) {
    CpuState& s = *op.s;
    op.no_bias.assign(s.config.hidden_size, 0);  // an embedding of one token
    op.ends.embed_tokens = op.no_bias.data();
    if (position) {
      std::copy_n(position, tokens, s.position);
    } else {
      std::fill(s.rope.inv_freq.begin(), s.rope.inv_freq.end(), 0.0f);
      s.rope.concentration = 1;
    }
    op.batch.tokens = tokens;
    device_.embed(s, op.ends, op.batch);
  }
  // Keys and values go to their pages, in one step; q is that of these positions, or absent.
  void append(CpuOperation& op, const AttentionOp& a, const std::vector<Segment>& segments, bool with_q) {
    CpuState& s = *op.s;
    const size_t q_size = s.config.q_size(), kv_size = s.config.kv_size();
    int token = 0;
    for (const Segment& segment : segments)
      for (int i = 0; i < segment.count; ++i, ++token) {
        float* row = s.qkv + token * (q_size + 2 * kv_size);
        if (with_q) std::memcpy(row, a.q + (segment.query + i) * q_size, q_size * sizeof(float));
        std::memcpy(row + q_size, a.k + (segment.key + i) * kv_size, kv_size * sizeof(float));
        std::memcpy(row + q_size + kv_size, a.v + (segment.key + i) * kv_size, kv_size * sizeof(float));
        s.position[token] = segment.first + i;
        s.sequence[token] = segment.sequence;
      }
    device_.rotate_append(s, static_cast<const CpuLayer&>(*op.layer), token);
  }

  CpuBackend& device_;
};

std::unique_ptr<Ops> CpuBackend::ops() { return std::make_unique<CpuOps>(*this); }

}  // namespace gptoss::cpu
