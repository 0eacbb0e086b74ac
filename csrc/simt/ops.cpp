// The kernels one by one: each operation is a stage, or a kernel of one, over a state whose inputs and outputs are
// the caller's device memory.
#include <algorithm>
#include <chrono>
#include <functional>

#include "../numeric.h"
#include "../ragged.h"
#include "launches.h"

namespace gptoss::simt {
namespace {

// DLPack calls the default stream 1, as CUDA itself does beside nullptr.
GPU(Stream_t) to_stream(StreamHandle handle) {
  return handle == 1 ? nullptr : reinterpret_cast<GPU(Stream_t)>(handle);
}

constexpr size_t kFloat = sizeof(float);

// One layer whose every size is the smallest; operations set those that they mean.
Config small_config() {
  Config c;
  c.num_hidden_layers = c.num_local_experts = c.num_experts_per_tok = 1;
  c.num_attention_heads = c.num_key_value_heads = c.vocab_size = c.hidden_size = 1;
  c.head_dim = 2;
  c.layer_types = {LayerType::full_attention};
  return c;
}

// An event that knows when it happened.
class Moment {
 public:
  Moment() { check(GPU(EventCreate)(&event_), "creating an event"); }
  ~Moment() { (void)GPU(EventDestroy)(event_); }
  Moment(const Moment&) = delete;
  Moment& operator=(const Moment&) = delete;
  void record(GPU(Stream_t) stream) { check(GPU(EventRecord)(event_, stream), "recording an event"); }
  GPU(Event_t) event() const { return event_; }
  double seconds_until(const Moment& later) const {
    float milliseconds = 0;
    check(GPU(EventSynchronize)(later.event_), "waiting for the device");
    check(GPU(EventElapsedTime)(&milliseconds, event_, later.event_), "reading an event's time");
    return milliseconds * 1e-3;
  }

 private:
  GPU(Event_t) event_ = nullptr;
};

struct GpuOperation : Operation {
  explicit GpuOperation(GPU(Stream_t) stream) : s(stream) {}

  GpuState s;
  GpuLayer layer;
  GpuEnds ends;
  Call call{};
  std::vector<DeviceMemory> scratch;
  std::function<void()> body;

  void run() override { body(); }

  template <class T>
  T* take(size_t count, const char* what) {
    return reinterpret_cast<T*>(scratch.emplace_back(count * sizeof(T), what).data());
  }
  // A copy of host memory; it is there when this returns.
  template <class T>
  T* put(const T* from, size_t count, const char* what) {
    T* to = take<T>(count, what);
    write(to, from, count, what);
    return to;
  }
  template <class T>
  void write(T* to, const T* from, size_t count, const char* what) {
    if (count == 0) return;
    check(GPU(MemcpyAsync)(to, from, count * sizeof(T), GPU(MemcpyHostToDevice), s.stream), what);
    s.stream.wait();
  }
  // bf16 of the device as floats, as load() keeps them; zeros without.
  float* floats(const uint16_t* bf16, size_t count, const char* what) {
    std::vector<uint16_t> bits(count);
    if (bf16) {
      check(GPU(MemcpyAsync)(bits.data(), bf16, count * sizeof(uint16_t), GPU(MemcpyDeviceToHost), s.stream), what);
      s.stream.wait();
    }
    std::vector<float> values(count);
    std::transform(bits.begin(), bits.end(), values.begin(), gptoss::bf16_to_float);
    return put(values.data(), count, what);
  }
  void zero(float* data, size_t count) {
    check(GPU(MemsetAsync)(data, 0, count * kFloat, s.stream), "clearing a result");
  }
  void copy(float* to, const float* from, size_t count) {
    check(GPU(MemcpyAsync)(to, from, count * kFloat, GPU(MemcpyDeviceToDevice), s.stream), "copying an operand");
  }
  void set_tokens(int tokens) {
    call.grid = {.tokens = tokens, .sequences = 1, .rows = tokens, .samples = tokens};
    const LiveCounts live{tokens, tokens, tokens};
    if (s.live == nullptr) s.live = take<LiveCounts>(1, "counts");
    write(s.live, &live, 1, "writing an operation's counts");
  }
};
using Made = std::unique_ptr<GpuOperation>;

}  // namespace

class GpuOps : public Ops {
 public:
  explicit GpuOps(GpuBackend& device) : device_(device) {}

  MemoryPlace place() const override {
#if GPTOSS_METAL_DEVICE
    constexpr int kType = 8;  // kDLMetal
#elif GPTOSS_HIP_DEVICE
    constexpr int kType = 10;  // kDLROCM
#else
    constexpr int kType = 2;  // kDLCUDA
#endif
    return {kType, device_.index_};
  }
  std::shared_ptr<void> allocate(size_t bytes) override {
    device_.use_device();
    auto memory = std::make_shared<DeviceMemory>(std::max<size_t>(bytes, 1), "operands of an operation");
    return {memory, memory->data()};
  }
  void copy_in(void* to, const void* from, size_t bytes, StreamHandle stream) override {
    copy(to, from, bytes, GPU(MemcpyHostToDevice), stream);
  }
  void copy_out(void* to, const void* from, size_t bytes, StreamHandle stream) override {
    copy(to, from, bytes, GPU(MemcpyDeviceToHost), stream);
  }
  StreamHandle stream() override { return reinterpret_cast<StreamHandle>(static_cast<GPU(Stream_t)>(stream_)); }
  void order(StreamHandle first, StreamHandle then) override {
    device_.use_device();
    Moment moment;
    moment.record(to_stream(first));
    // The runtime keeps what it needs of an event that is destroyed while it is waited for.
    check(GPU(StreamWaitEvent)(to_stream(then), moment.event(), 0), "ordering two streams");
  }
  void wait(StreamHandle stream) override {
    device_.use_device();
    Stream(to_stream(stream)).wait();
  }

  std::unique_ptr<Operation> linear(const LinearOp& a, StreamHandle stream) override {
    Made op = make(stream, Stage::attn_out, a.tokens);
    op->s.config.hidden_size = a.rows;
    op->s.config.head_dim = a.k;  // o_proj of one head
    const MatrixShape shape{MatrixShape::Use::attn_out, 1, a.rows, a.k, false};
    op->layer.o.arranged = arranged(*op, shape, {.expert = 0, .first = 0, .count = a.rows, .dense = a.weight});
    if (!op->layer.o.arranged) op->layer.o.rows = const_cast<uint16_t*>(a.weight);
    op->layer.o_bias = op->floats(a.bias, a.rows, "bias");
    op->s.attn = const_cast<float*>(a.x);
    take_operand(*op, op->layer.o.arranged, static_cast<size_t>(a.tokens) * a.k, op->s.operand, op->s.operand_terms);
    op->s.residual = a.y;
    return with_body(std::move(op), [this, a](GpuOperation& o) {
      o.zero(a.y, static_cast<size_t>(a.tokens) * a.rows);  // attn_out adds to the residual
      device_.run(o.s, o.call);
    });
  }

  std::unique_ptr<Operation> moe_up(const MoeUpOp& a, StreamHandle stream) override {
    Made op = make_experts(stream, Stage::moe_up, a.tokens, a.chosen, a.experts, a.choice);
    Config& c = op->s.config;
    c.intermediate_size = a.experts.rows / 2;
    c.swiglu_limit = a.limit;
    c.swiglu_alpha = a.alpha;
    fill_operand(*op, a.x, a.tokens, a.experts.k, op->s.operand, op->s.operand_terms);
    op->s.expert_h = a.y;
    // What the experts hand on is read as float32.
    op->layer.down.arranged = nullptr;
    return with_body(std::move(op), [this](GpuOperation& o) { device_.run(o.s, o.call); });
  }

  std::unique_ptr<Operation> moe_down(const MoeDownOp& a, StreamHandle stream) override {
    Made op = make_experts(stream, Stage::moe_down, a.tokens, a.chosen, a.experts, a.choice);
    const size_t pairs = static_cast<size_t>(a.tokens) * a.chosen, out = static_cast<size_t>(a.tokens) * a.experts.rows;
    op->s.config.hidden_size = a.experts.rows;
    fill_operand(*op, a.h, static_cast<int>(pairs), a.experts.k, op->s.expert_h, op->s.expert_h_terms);
    op->s.expert_y = op->take<float>(pairs * a.experts.rows, "outputs of experts");
    op->s.router_weight = const_cast<float*>(a.weight);
    if (a.weight == nullptr) {
      const std::vector<float> ones(pairs, 1.0f);
      op->s.router_weight = op->put(ones.data(), pairs, "weights of experts");
    }
    op->s.residual = a.y;
    return with_body(std::move(op), [this, a, out](GpuOperation& o) {
      o.zero(a.y, out);
      device_.run(o.s, o.call);
    });
  }

  std::unique_ptr<Operation> attention(const AttentionOp& a, StreamHandle stream) override {
    constexpr int kChunk = 4096;  // keys appended at a time
    const int rows = step_tokens(a, kChunk), half = a.head_dim / 2;
    Made op = make(stream, Stage::attn, a.tokens);
    GpuState& s = op->s;
    Config& c = s.config;
    c.num_attention_heads = a.heads;
    c.num_key_value_heads = a.kv_heads;
    c.head_dim = a.head_dim;
    c.sliding_window = a.window;
    c.layer_types = {a.window > 0 ? LayerType::sliding_attention : LayerType::full_attention};
    op->layer.type = c.layer_types[0];
    op->layer.sinks = op->floats(a.sinks, a.heads, "sinks");
    s.limits.max_context = longest(a);
    s.limits.pages = page_count(a);
    s.page_bytes = s.page_layer_bytes = device_.page_bytes(c);
    s.page_head_bytes = s.page_bytes / a.kv_heads;
    s.splits = (s.limits.table_pages() + kSplitPages - 1) / kSplitPages;
    s.kv = DeviceMemory(s.page_bytes * s.limits.pages, "keys and values");
    const std::vector<int32_t> tables = page_tables(a, s.limits.table_pages());
    s.full_pages = s.window_pages = op->put(tables.data(), tables.size(), "page tables");
    s.position = op->take<int32_t>(rows, "positions");
    s.sequence = op->take<int32_t>(rows, "sequences");
    s.qkv = op->take<float>(static_cast<size_t>(rows) * (a.heads + 2 * a.kv_heads) * a.head_dim, "queries");
    // Angles of no rotation, so that what is appended is what was given.
    const std::vector<float> cosines(static_cast<size_t>(rows) * half, 1.0f), sines(cosines.size(), 0.0f);
    s.rope_cos = op->put(cosines.data(), cosines.size(), "cosines");
    s.rope_sin = op->put(sines.data(), sines.size(), "sines");
    if (s.splits > 1 && a.window == 0 && a.tokens <= kDecodeTokens)
      s.partial = op->take<float>(static_cast<size_t>(a.tokens) * a.heads * s.splits * (2 + a.head_dim), "partial sums");
    take_scratch(*op, c, a.tokens);
    for (const Segment& segment : cached_segments(a, kChunk)) append(*op, a, {segment}, false);
    append(*op, a, query_segments(a), true);
    s.attn = a.attn;
    s.lse = a.lse;
    return with_body(std::move(op), [this](GpuOperation& o) { device_.run(o.s, o.call); });
  }

  std::unique_ptr<Operation> rms_norm(const NormOp& a, StreamHandle stream) override {
    Made op = make(stream, Stage::moe_route, a.tokens);
    op->s.config.hidden_size = a.size;
    op->s.config.rms_norm_eps = a.eps;
    op->layer.post_attention_layernorm = op->floats(a.gain, a.size, "gain");
    op->s.residual = const_cast<float*>(a.x);
    const Operand out{.values = a.y, .terms = nullptr, .size = a.size, .count = 0, .round = rounds()};
    return with_body(std::move(op), [this, a, out](GpuOperation& o) {
      Launches to = launches(o);
      to.norm(to.norm_args(o.layer.post_attention_layernorm, nullptr, &o.s.live->tokens, out), a.tokens);
    });
  }

  std::unique_ptr<Operation> rope(const RopeOp& a, StreamHandle stream) override {
    const size_t half = static_cast<size_t>(a.head_dim) / 2;
    Made op = make(stream, Stage::embed, a.tokens);
    GpuState& s = op->s;
    s.config.num_attention_heads = a.heads;
    s.config.num_key_value_heads = 0;  // queries only: nothing is appended
    s.config.head_dim = a.head_dim;
    const std::vector<int32_t> zeros(a.tokens, 0);
    const uint16_t nothing[1] = {};
    s.token = op->put(zeros.data(), a.tokens, "tokens");
    s.sequence = s.token;
    s.position = op->put(a.position, a.tokens, "positions");
    s.inv_freq = op->put(a.inv_freq, half, "rotary frequencies");
    s.concentration = a.concentration;
    s.rope_cos = op->take<float>(a.tokens * half, "cosines");
    s.rope_sin = op->take<float>(a.tokens * half, "sines");
    s.residual = op->take<float>(a.tokens, "embedding");
    op->ends.embed_tokens = op->put(nothing, 1, "embedding");
    op->call.ends = &op->ends;
    device_.run(s, op->call);  // embed computes the angles
    s.qkv = a.y;
    return with_body(std::move(op), [this, a](GpuOperation& o) {
      o.copy(a.y, a.x, static_cast<size_t>(a.tokens) * a.heads * a.head_dim);
      launches(o).rotate_append();
    });
  }

  std::unique_ptr<Operation> route(const RouteOp& a, StreamHandle stream) override {
    Made op = make(stream, Stage::moe_route, a.tokens);
    op->s.config.num_local_experts = a.experts;
    op->s.config.num_experts_per_tok = a.chosen;
    op->s.router_logits = const_cast<float*>(a.logits);
    op->s.router_choice = a.choice;
    op->s.router_weight = a.weight;
    return with_body(std::move(op), [this](GpuOperation& o) { launches(o).choose(); });
  }

  std::unique_ptr<Operation> swiglu(const SwigluOp& a, StreamHandle stream) override {
    const SwigluArgs args{.u = a.u, .out = a.y, .rows = a.tokens, .size = a.size, .limit = a.limit, .alpha = a.alpha,
                          .round = rounds()};
    return with_body(make(stream, Stage::moe_up, a.tokens), [this, args](GpuOperation& o) { launches(o).swiglu(args); });
  }

  std::unique_ptr<Operation> dequantize(const DequantizeOp& a, StreamHandle stream) override {
    const DequantizeArgs args{.blocks = reinterpret_cast<const uint32_t*>(a.blocks), .scales = a.scales, .out = a.y,
                              .rows = a.rows, .k = a.k};
    return with_body(make(stream, Stage::moe_up, a.rows), [this, args](GpuOperation& o) { launches(o).dequantize(args); });
  }

  std::unique_ptr<Operation> sample(const SampleOp& a, StreamHandle stream) override {
    Made op = make(stream, Stage::sample, a.rows);
    GpuState& s = op->s;
    s.config.vocab_size = a.vocab;
    s.mask_words = (static_cast<size_t>(a.vocab) + 31) / 32;
    std::vector<int32_t> rows(a.rows), positions(a.rows);
    for (int i = 0; i < a.rows; ++i) {
      rows[i] = i;
      positions[i] = a.position[i] - 1;  // of the row's own token
    }
    s.row = op->put(rows.data(), a.rows, "rows");
    s.position = op->put(positions.data(), a.rows, "positions");
    s.sampling = op->put(a.params, a.rows, "parameters");
    s.edits = op->put(a.edits, a.edit_count, "edits");
    s.masks = op->put(a.masks, a.mask_count * s.mask_words, "masks");
    s.logits = const_cast<float*>(a.logits);
    const size_t count = static_cast<size_t>(a.rows) * a.vocab;
    const bool changes = a.edit_count + a.mask_count > 0;  // then logits are changed in place
    if (changes) s.logits = op->take<float>(count, "logits");
    Buffers counted;
    Arena needed(nullptr);
    arrange_sampling(counted, a.rows, a.vocab, needed);
    Arena arena(op->take<uint8_t>(needed.used(), "what sampling needs"));
    arrange_sampling(s, a.rows, a.vocab, arena);
    s.next_token = a.next_token;
    s.logprob = a.logprob;
    s.top_token = a.top_token;
    s.top_logprob = a.top_logprob;
    return with_body(std::move(op), [this, a, changes, count](GpuOperation& o) {
      if (changes) o.copy(o.s.logits, a.logits, count);
      device_.run(o.s, o.call);
    });
  }

  // One graph of all operations: a launch from the host can take longer than a kernel.
  std::vector<double> time(const std::vector<Operation*>& operations, int rounds) override {
    device_.use_device();
    stream_.wait();
    const Graph graph = Graph::capture(stream_, [&] {
      for (Operation* operation : operations) operation->run();
    });
    graph.launch(stream_);  // once for what the first launch of a graph costs
    std::vector<double> seconds;
    for (int i = 0; i < rounds; ++i)
      seconds.push_back(measure([&] { graph.launch(stream_); }));
    return seconds;
  }

  double read_bandwidth(size_t bytes, double seconds) override {
    const int blocks = static_cast<int>(std::clamp<size_t>(bytes / (16 * 256 * 16), 1, 2048));
    const DeviceMemory data(bytes, "the read probe"), sink(kFloat, "the read probe");
    check(GPU(MemsetAsync)(data.data(), 0, bytes, stream_), "clearing the read probe");
    const ReadArgs args{.data = reinterpret_cast<const float*>(data.data()), .count = bytes / kFloat,
                        .sink = reinterpret_cast<float*>(sink.data())};
    return best_rate(static_cast<double>(bytes), seconds, [&](Launches& launches) { launches.read(args, blocks); });
  }

  double fma_rate(double seconds) override {
    constexpr int kBlocks = 4096, kIterations = 1024;
    constexpr double kFlops = 2.0 * 16 * 256 * kBlocks * kIterations;
    const DeviceMemory sink(kFloat, "the multiply-add probe");
    const MultiplyAddArgs args{.iterations = kIterations, .sink = reinterpret_cast<float*>(sink.data())};
    return best_rate(kFlops, seconds, [&](Launches& launches) { launches.multiply_add(args, kBlocks); });
  }

 private:
  void copy(void* to, const void* from, size_t bytes, GPU(MemcpyKind) kind, StreamHandle stream) {
    if (bytes == 0) return;
    device_.use_device();
    check(GPU(MemcpyAsync)(to, from, bytes, kind, to_stream(stream)), "copying operands");
    Stream(to_stream(stream)).wait();
  }
  bool rounds() const { return device_.options_.precision == Precision::fast; }

  Made make(StreamHandle stream, Stage stage, int tokens) {
    device_.use_device();
    Made op = std::make_unique<GpuOperation>(to_stream(stream));
    op->s.config = small_config();
    op->call.stage = stage;
    op->call.layer = &op->layer;
    op->set_tokens(tokens);
    return op;
  }
  template <class Body>
  std::unique_ptr<Operation> with_body(Made op, const Body& body) {
    op->body = [this, o = op.get(), body] {
      device_.use_device();
      body(*o);
    };
    return op;
  }
  // What passes between the matrix kernels of one call, of an operation with this configuration; zeros at first.
  void take_scratch(GpuOperation& op, const Config& config, int tokens) {
    if (!device_.matrix_) return;
    Limits limits = op.s.limits;
    limits.max_tokens = tokens;
    const size_t bytes = device_.matrix_->scratch_bytes(config, limits);
    if (bytes == 0) return;
    op.s.scratch = op.take<uint8_t>(bytes, "what passes between kernels");
    check(GPU(MemsetAsync)(op.s.scratch, 0, bytes, op.s.stream), "clearing what passes between kernels");
  }
  Launches launches(GpuOperation& op) { return Launches(op.s, device_.options_, device_.matrix_.get(), op.call); }

  int terms() const { return operand_terms(device_.options_.precision); }

  // The weights as load() arranges them; null where the matrix kernels do not take them.
  uint8_t* arranged(GpuOperation& op, const MatrixShape& shape, const MatrixRows& rows) {
    const size_t bytes = device_.matrix_ ? device_.matrix_->bytes(shape) : 0;
    if (bytes == 0) return nullptr;
    uint8_t* to = op.take<uint8_t>(bytes, "weights of an operation");
    const size_t weights = static_cast<size_t>(shape.rows) * shape.k;
    for (MatrixRows expert = rows; expert.expert < shape.experts; ++expert.expert) {
      device_.matrix_->arrange(shape, expert, to, op.s.stream);
      expert.blocks = expert.blocks ? expert.blocks + weights / 8 : nullptr;
      expert.scales = expert.scales ? expert.scales + weights / 32 : nullptr;
    }
    return to;
  }
  void take_operand(GpuOperation& op, bool arranged, size_t count, float*& values, uint16_t*& bf16) {
    if (arranged)
      bf16 = op.take<uint16_t>(count * terms(), "terms of activations");
    else if (rounds())
      values = op.take<float>(count, "rounded activations");
  }
  // x as the experts multiply it; in SIMT's `exact` x itself.
  void fill_operand(GpuOperation& op, const float* x, int rows, int size, float*& values, uint16_t*& bf16) {
    const bool arranged = op.layer.down.arranged != nullptr;
    take_operand(op, arranged, static_cast<size_t>(rows) * size, values, bf16);
    if (!arranged && !rounds()) {
      values = const_cast<float*>(x);
      return;
    }
    const Batch grid = op.call.grid;
    const bool stepped = arranged && device_.matrix_->stepped(MatrixShape::Use::gate_up, op.s.config, grid.tokens);
    const Operand out{.values = values, .terms = bf16, .size = size, .count = terms(), .round = rounds(), .stepped = stepped};
    op.set_tokens(rows);
    launches(op).round_rows(x, out, rows);
    op.set_tokens(grid.tokens);
  }

  // An operation with the experts in down, and the pairs grouped.
  Made make_experts(StreamHandle stream, Stage stage, int tokens, int chosen, const Mxfp4Experts& e, const int32_t* choice) {
    const int pairs = tokens * chosen;
    Made op = make(stream, stage, tokens);
    GpuState& s = op->s;
    s.config.num_local_experts = e.experts;
    s.config.num_experts_per_tok = chosen;
    const auto* blocks = reinterpret_cast<const uint32_t*>(e.blocks);
    const MatrixShape shape{stage == Stage::moe_up ? MatrixShape::Use::gate_up : MatrixShape::Use::down, e.experts, e.rows,
                            e.k, true};
    op->layer.down = {.blocks = blocks,
                      .scales = e.scales,
                      .dense = nullptr,
                      .arranged = arranged(*op, shape, {.expert = 0, .first = 0, .count = e.rows, .dense = nullptr,
                                                        .blocks = blocks, .scales = e.scales}),
                      .bias = op->floats(e.bias, static_cast<size_t>(e.experts) * e.rows, "bias"),
                      .rows = e.rows,
                      .k = e.k};
    op->layer.gate_up = op->layer.down;
    s.router_choice = const_cast<int32_t*>(choice);
    if (choice == nullptr) {
      const std::vector<int32_t> zeros(pairs, 0);
      s.router_choice = op->put(zeros.data(), pairs, "choices");
    }
    s.pairs = op->take<int32_t>(pairs, "pairs");
    s.tiles = op->take<ExpertTile>(most_tiles(pairs, e.experts), "tiles");
    s.tile_count = op->take<int32_t>(1, "tiles");
    launches(*op).group_pairs();
    Config sizes = s.config;
    sizes.hidden_size = sizes.intermediate_size = e.k;
    take_scratch(*op, sizes, tokens);
    return op;
  }

  // Keys and values go to their pages, in one step; q is that of these positions, or absent.
  void append(GpuOperation& op, const AttentionOp& a, const std::vector<Segment>& segments, bool with_q) {
    GpuState& s = op.s;
    const size_t q_size = static_cast<size_t>(a.heads) * a.head_dim;
    const size_t kv_size = static_cast<size_t>(a.kv_heads) * a.head_dim, row_size = q_size + 2 * kv_size;
    std::vector<int32_t> positions, sequences;
    for (const Segment& segment : segments) {
      float* rows = s.qkv + positions.size() * row_size;
      const auto place = [&](size_t column, const float* from, size_t size) {
        check(GPU(Memcpy2DAsync)(rows + column, row_size * kFloat, from, size * kFloat, size * kFloat, segment.count,
                                 GPU(MemcpyDeviceToDevice), s.stream),
              "placing queries, keys and values");
      };
      if (with_q) {
        place(0, a.q + segment.query * q_size, q_size);
      } else {
        op.zero(rows, segment.count * row_size);  // nobody reads these queries
      }
      place(q_size, a.k + segment.key * kv_size, kv_size);
      place(q_size + kv_size, a.v + segment.key * kv_size, kv_size);
      for (int i = 0; i < segment.count; ++i) positions.push_back(segment.first + i);
      sequences.resize(positions.size(), segment.sequence);
    }
    op.write(s.position, positions.data(), positions.size(), "writing positions");
    op.write(s.sequence, sequences.data(), sequences.size(), "writing sequences");
    op.set_tokens(static_cast<int>(positions.size()));
    launches(op).rotate_append();
  }

  template <class Work>
  double measure(const Work& work) {
    Moment start, end;
    start.record(stream_);
    work();
    end.record(stream_);
    return start.seconds_until(end);
  }
  template <class Work>
  double best_rate(double amount, double seconds, const Work& work) {
    device_.use_device();
    GpuOperation op{stream_};
    Launches launches(op.s, device_.options_, device_.matrix_.get(), op.call);
    work(launches);  // warm
    double best = 0, spent = 0;
    do {
      const double one = std::max(measure([&] { work(launches); }), 1e-9);
      best = std::max(best, amount / one);
      spent += one;
    } while (spent < seconds);
    return best;
  }

  GpuBackend& device_;
  Stream stream_;
};

std::unique_ptr<Ops> GpuBackend::ops() {
  use_device();
  return std::make_unique<GpuOps>(*this);
}

}  // namespace gptoss::simt
