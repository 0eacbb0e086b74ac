// The nine stages and their kernels as launches: over which grids.
#include "grids.h"
#include "kernels.h"
#include "launches.h"

namespace gptoss::simt {

using Use = MatrixShape::Use;

static_assert(kSampleTop == kMaxLogprobs);
static_assert(kPageSlots == kPageTokens && kPagesPerSplit == kSplitPages, "kernels and engine cut the keys alike");

Launches::Launches(GpuState& state, const BackendOptions& options, const MatrixKernels* matrix, const Call& call)
    : s_(state), c_(state.config), matrix_(matrix), fast_(options.precision == Precision::fast),
      bf16_kv_(options.kv_dtype == KvDType::bf16), terms_(operand_terms(options.precision)), call_(call) {}

template <class Args>
void Launches::start(const char* kernel_name, KernelOf<Args> kernel, dim3 grid, size_t shared, const Args& args,
                     int threads) {
  if (grid.x == 0 || grid.y == 0) return;  // nothing to do
  check(launch(kernel, {.grid = grid, .block = dim3(threads), .dynamic_shared = shared, .stream = s_.stream,
                        .programmatic = dependent()}, args),
        std::string("launching kernel ") + kernel_name);
  s_.behind_a_kernel = true;
}
template <class Args>
void Launches::start(const char* kernel_name, KernelOf<Args> kernel, dim3 grid, size_t shared, const Args& args) {
  start(kernel_name, kernel, grid, shared, args, kBlockWarps * warp_size());
}

void Launches::embed() {
  const auto& ends = static_cast<const GpuEnds&>(*call_.ends);
  start("embed", simt::embed, element_grid(tokens(), c_.hidden_size), 0,
        EmbedArgs{.live = s_.live,
                  .token = s_.token,
                  .position = s_.position,
                  .drawn = s_.next_token,
                  .embed_tokens = ends.embed_tokens,
                  .inv_freq = s_.inv_freq,
                  .residual = s_.residual,
                  .rope_cos = s_.rope_cos,
                  .rope_sin = s_.rope_sin,
                  .concentration = static_cast<float>(s_.concentration),
                  .hidden_size = c_.hidden_size,
                  .half_dim = c_.head_dim / 2},
        row_threads(c_.hidden_size));
}

void Launches::attn_qkv() {
  const Operand x = operand(layer().qkv.arranged != nullptr, c_.hidden_size, Use::qkv);
  const NormArgs before = norm_args(layer().input_layernorm, nullptr, &s_.live->tokens, x);
  const LinearArgs product{.count = &s_.live->tokens,
                           .weight = layer().qkv.rows,
                           .arranged = layer().qkv.arranged,
                           .bias = layer().qkv_bias,
                           .x = x,
                           .y = s_.qkv,
                           .rows = c_.q_size() + 2 * c_.kv_size(),
                           .k = c_.hidden_size,
                           .add = false};
  if (product.arranged && enqueued(matrix_->norm_qkv(before, product, append(), matrix_launch(tokens())))) return;
  norm(before, tokens());
  if (product.arranged && enqueued(matrix_->qkv(product, append(), matrix_launch(tokens())))) return;
  linear(product, tokens());
  rotate_append();
}

void Launches::attn() {
  const bool full = call_.layer->type == LayerType::full_attention;
  AttentionArgs args{.live = s_.live,
                           .position = s_.position,
                           .sequence = s_.sequence,
                           .qkv = s_.qkv,
                           .sinks = layer().sinks,
                           .kv = kv(),
                           .attn = s_.attn,
                           .lse = s_.lse,
                           .terms = nullptr,
                           .partial = s_.partial,
                           .splits = s_.splits,
                           .heads = c_.num_attention_heads,
                           .kv_heads = c_.num_key_value_heads,
                           .head_dim = c_.head_dim,
                           .window = full ? 0 : c_.sliding_window,
                           .scale = 1.0f / std::sqrt(static_cast<float>(c_.head_dim)),
                           .round_weights = fast_};
  if (matrix_ && fast_) {
    const Operand next = operand(true, c_.q_size(), Use::attn_out);
    args.terms = next.terms;
    args.stepped = next.stepped;
  }
  if (matrix_ && enqueued(matrix_->attn(args, matrix_launch(tokens())))) {
    s_.attn_in_terms = call_.layer;
    return;
  }
  dim3 grid = warp_grid(tokens() * c_.num_attention_heads);
  if (!full || s_.splits < 2 || tokens() > kDecodeTokens) {
    start("attn", bf16_kv_ ? simt::attn<uint16_t> : simt::attn<float>, grid, kAttentionShared, args);
    return;
  }
  const dim3 merge_grid = grid;
  grid.y = s_.splits;
  start("attn_split", bf16_kv_ ? attn_split<uint16_t> : attn_split<float>, grid, kAttentionShared, args);
  start("attn_merge", attn_merge, merge_grid, 0, args);
}

void Launches::attn_out() {
  const bool arranged = layer().o.arranged != nullptr;
  Operand x = operand(arranged, c_.q_size(), Use::attn_out);
  const bool written = arranged && std::exchange(s_.attn_in_terms, nullptr) == call_.layer;  // by attn
  if (!fast_ && !arranged)
    x.values = s_.attn;
  else if (!written)
    round_rows(s_.attn, x, tokens());
  const LinearArgs product{.count = &s_.live->tokens,
                           .weight = layer().o.rows,
                           .arranged = layer().o.arranged,
                           .bias = layer().o_bias,
                           .x = x,
                           .y = s_.residual,
                           .rows = c_.hidden_size,
                           .k = c_.q_size(),
                           .add = true};
  // Where routing follows at once: nobody looks at the residual between the two, or writes it.
  const bool route_is_next = s_.next && s_.next->stage == Stage::moe_route && s_.next->layer == call_.layer;
  if (arranged && route_is_next && layer().router.arranged && layer().gate_up.arranged &&
      enqueued(matrix_->attn_out_route(product, norm_before_experts(true), router(), {route(), group()}, matrix_launch(tokens())))) {
    s_.routed = call_.layer;
    return;
  }
  linear(product, tokens());
}

void Launches::moe_route() {
  if (std::exchange(s_.routed, nullptr) == call_.layer) return;
  // The router and the experts need not be multiplied by the same kernels.
  const bool arranged = layer().router.arranged != nullptr, experts = layer().gate_up.arranged != nullptr;
  const NormArgs before = norm_before_experts(arranged);
  if (arranged && experts && enqueued(matrix_->route(before, router(), {route(), group()}, matrix_launch(tokens())))) return;
  norm(before, tokens());
  if (arranged != experts) norm(norm_before_experts(experts), tokens());
  linear(router(), tokens());
  if (tokens() > kFewTokens) {
    choose();
    group_pairs();
    return;
  }
  start("route_few", route_few, dim3(1), group_shared(c_.num_local_experts, group_threads()),
        RouteFewArgs{route(), group()}, group_threads());
}

void Launches::moe_up() {
  const bool dense = layer().gate_up.dense != nullptr;
  const MoeArgs args = moe(layer().gate_up, operand(layer().gate_up.arranged != nullptr, c_.hidden_size, Use::gate_up));
  if (args.experts.arranged) {
    matrix_->moe_up(args, matrix_launch(tokens()));
    s_.behind_a_kernel = true;
    return;
  }
  start("moe_up", dense ? simt::moe_up<Bf16Row> : simt::moe_up<Mxfp4Row>, expert_grid(c_.intermediate_size), 0, args);
}

void Launches::moe_down() {
  const bool dense = layer().down.dense != nullptr;
  const MoeArgs args = moe(layer().down, expert_h());
  const CombineArgs sum{.live = s_.live,
                        .y = s_.expert_y,
                        .weight = s_.router_weight,
                        .residual = s_.residual,
                        .size = c_.hidden_size,
                        .chosen = c_.num_experts_per_tok};
  if (args.experts.arranged) {
    const bool summed = matrix_->moe_down(args, sum, matrix_launch(tokens()));
    s_.behind_a_kernel = true;
    if (summed) return;
  } else {
    start("moe_down", dense ? simt::moe_down<Bf16Row> : simt::moe_down<Mxfp4Row>, expert_grid(c_.hidden_size), 0, args);
  }
  start("moe_combine", moe_combine, element_grid(tokens(), sum.size), 0, sum, row_threads(sum.size));
}

void Launches::unembed() {
  const auto& ends = static_cast<const GpuEnds&>(*call_.ends);
  const Operand x = operand(ends.lm_head.arranged != nullptr, c_.hidden_size, Use::unembed);
  norm(norm_args(ends.norm, s_.row, &s_.live->rows, x), call_.grid.rows);
  linear({.count = &s_.live->rows,
          .weight = ends.lm_head.rows,
          .arranged = ends.lm_head.arranged,
          .bias = nullptr,
          .x = x,
          .y = s_.logits,
          .rows = c_.vocab_size,
          .k = c_.hidden_size,
          .add = false},
         call_.grid.rows);
}

void Launches::sample() {
  const SampleArgs args{.live = s_.live,
                        .logits = s_.logits,
                        .sampling = s_.sampling,
                        .edits = s_.edits,
                        .masks = s_.masks,
                        .position = s_.position,
                        .row = s_.row,
                        .next_token = s_.next_token,
                        .logprob = s_.logprob,
                        .top_token = s_.top_token,
                        .top_logprob = s_.top_logprob,
                        .slices = s_.sample_slices,
                        .bins = s_.sample_bins,
                        .collected = s_.sample_collected,
                        .candidates = s_.sample_candidates,
                        .vocab = c_.vocab_size,
                        .mask_words = static_cast<int>(s_.mask_words),
                        .max_logprobs = kMaxLogprobs};
  const dim3 grid(sample_slices(c_.vocab_size), call_.grid.samples);
  start("sample_scan", sample_scan, grid, kMaxWarps * sizeof(U64), args, kSampleThreads);
  start("sample_weigh", sample_weigh, grid, weigh_shared(), args, kSampleThreads);
  start("sample_collect", sample_collect, grid, kMaxWarps * sizeof(U64), args, kSampleThreads);
  start("sample_finish", sample_finish, dim3(call_.grid.samples), sizeof(FinishShared), args, kFinishThreads);
}

Operand Launches::operand(bool arranged, int size, Use use) const {
  if (arranged)
    return {.values = nullptr, .terms = s_.operand_terms, .size = size, .count = terms_, .round = false,
            .stepped = matrix_->stepped(use, c_, use == Use::unembed ? call_.grid.rows : tokens())};
  return {.values = s_.operand, .terms = nullptr, .size = size, .count = 0, .round = fast_};
}
Operand Launches::expert_h() const {
  const bool arranged = layer().down.arranged != nullptr;
  Operand h = operand(arranged, c_.intermediate_size, Use::down);
  if (arranged)
    h.terms = s_.expert_h_terms;
  else
    h.values = s_.expert_h;
  return h;
}
NormArgs Launches::norm_before_experts(bool arranged) const {
  return norm_args(layer().post_attention_layernorm, nullptr, &s_.live->tokens, operand(arranged, c_.hidden_size, Use::router));
}
LinearArgs Launches::router() const {
  const bool arranged = layer().router.arranged != nullptr;
  return {.count = &s_.live->tokens,
          .weight = layer().router.rows,
          .arranged = layer().router.arranged,
          .bias = layer().router_bias,
          .x = operand(arranged, c_.hidden_size, Use::router),
          .y = s_.router_logits,
          .rows = c_.num_local_experts,
          .k = c_.hidden_size,
          .add = false};
}
dim3 Launches::expert_grid(int rows) const {
  return dim3(warp_grid(rows).x, most_tiles(tokens() * c_.num_experts_per_tok, c_.num_local_experts));
}
KvArgs Launches::kv() const {
  return {.layer = s_.kv.data() + call_.layer->cache_index * s_.page_layer_bytes,
          .page_bytes = s_.page_bytes,
          .head_bytes = s_.page_head_bytes,
          .pages = call_.layer->type == LayerType::full_attention ? s_.full_pages : s_.window_pages,
          .table_pages = s_.limits.table_pages(),
          .pool_pages = s_.limits.pages};
}
MoeArgs Launches::moe(const ExpertArgs& experts, const Operand& x) const {
  return {.tile_count = s_.tile_count,
          .tiles = s_.tiles,
          .pairs = s_.pairs,
          .experts = experts,
          .x = x,
          .h = expert_h(),
          .y = s_.expert_y,
          .chosen = c_.num_experts_per_tok,
          .limit = c_.swiglu_limit,
          .alpha = c_.swiglu_alpha};
}

// --- The kernels of the stages

NormArgs Launches::norm_args(const float* gain, const int32_t* row, const int32_t* count, const Operand& out) const {
  return {.count = count, .row = row, .x = s_.residual, .gain = gain, .out = out, .eps = c_.rms_norm_eps};
}
void Launches::norm(const NormArgs& args, int rows) {
  start("rmsnorm", rmsnorm, dim3(rows), kRowShared, args, row_threads(args.out.size));
}
void Launches::round_rows(const float* x, const Operand& out, int rows) {
  start("round_rows", simt::round_rows, element_grid(rows, out.size), 0,
        RoundArgs{.count = &s_.live->tokens, .x = x, .out = out}, row_threads(out.size));
}
void Launches::linear(const LinearArgs& args, int rows) {
  if (args.arranged) {
    matrix_->linear(args, matrix_launch(rows));
    s_.behind_a_kernel = true;
    return;
  }
  start("linear", simt::linear, linear_grid(args.rows, rows), 0, args);
}
void Launches::rotate_append() {
  start("rotate_append", bf16_kv_ ? simt::rotate_append<uint16_t> : simt::rotate_append<float>,
        warp_grid(tokens() * (c_.num_attention_heads + 2 * c_.num_key_value_heads)), 0, append());
}
AppendArgs Launches::append() const {
  return {.live = s_.live,
          .position = s_.position,
          .sequence = s_.sequence,
          .rope_cos = s_.rope_cos,
          .rope_sin = s_.rope_sin,
          .qkv = s_.qkv,
          .kv = kv(),
          .heads = c_.num_attention_heads,
          .kv_heads = c_.num_key_value_heads,
          .head_dim = c_.head_dim,
          .round_q = fast_};
}
void Launches::choose() {
  start("choose", simt::choose, warp_grid(tokens()), 0, route());
}
void Launches::group_pairs() {
  start("group_pairs", simt::group_pairs, dim3(1), group_shared(c_.num_local_experts, group_threads()), group(),
        group_threads());
}
int Launches::group_threads() const {
  return simt::group_threads(tokens() * c_.num_experts_per_tok, c_.num_local_experts);
}
RouteArgs Launches::route() const {
  return {.live = s_.live,
          .logits = s_.router_logits,
          .choice = s_.router_choice,
          .weight = s_.router_weight,
          .experts = c_.num_local_experts,
          .chosen = c_.num_experts_per_tok};
}
GroupArgs Launches::group() const {
  return {.live = s_.live,
          .choice = s_.router_choice,
          .pairs = s_.pairs,
          .tiles = s_.tiles,
          .tile_count = s_.tile_count,
          .experts = c_.num_local_experts,
          .chosen = c_.num_experts_per_tok,
          .tile = layer().gate_up.arranged ? matrix_->tile(c_, tokens()) : kTileTokens};
}

// --- For operations

void Launches::swiglu(const SwigluArgs& args) {
  start("swiglu_rows", swiglu_rows, warp_grid(args.rows), 0, args);
}
void Launches::dequantize(const DequantizeArgs& args) {
  start("dequantize_rows", dequantize_rows, warp_grid(args.rows), 0, args);
}
void Launches::read(const ReadArgs& args, int blocks) { start("read", simt::read, dim3(blocks), 0, args, kCeilingThreads); }
void Launches::multiply_add(const MultiplyAddArgs& args, int blocks) {
  start("multiply_add", simt::multiply_add, dim3(blocks), 0, args, kCeilingThreads);
}

void GpuBackend::run(GpuState& s, const Call& call) {
  Launches launches(s, options_, matrix_.get(), call);
  switch (call.stage) {
    case Stage::embed: return launches.embed();
    case Stage::attn_qkv: return launches.attn_qkv();
    case Stage::attn: return launches.attn();
    case Stage::attn_out: return launches.attn_out();
    case Stage::moe_route: return launches.moe_route();
    case Stage::moe_up: return launches.moe_up();
    case Stage::moe_down: return launches.moe_down();
    case Stage::unembed: return launches.unembed();
    case Stage::sample: return launches.sample();
    case Stage::keep: return run_keep(s, call);
  }
}

}  // namespace gptoss::simt
