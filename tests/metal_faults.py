"""Faults for Metal's kernels and for metal/runtime: changes of one place in one file, and the cases of metal_twins_test,
or of metal_runtime_test, that have to see them.

Caught is what the emulator or the fake of Metal reports (a race, a bound, divergence; an object that was released), and what
gives other numbers than it should.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    what: str
    file: str
    old: str
    new: str
    case: str
    often: bool = False
    """Whether it is tried in every run of the suite, rather than with GPTOSS_METAL_FAULTS=all."""


FAULTS = [
    Fault("a window one key too wide", "attention.metal", "position - a.window + 1", "position - a.window", "attention, a window of 128", True),
    Fault("a window one key too narrow", "attention.metal", "position - a.window + 1", "position - a.window + 2", "attention, a window of 128"),
    Fault("the newest key is not seen", "attention.metal", "query.position + 1 - page", "query.position - page", "attention, f32"),
    Fault("no barrier before the weights are read", "attention.metal", "sync_warp();  // all weights are there", "", "attention, f32", True),
    Fault("no barrier before weights are overwritten", "attention.metal", "sync_warp();  // the next page's weights may overwrite these", "", "attention, f32"),
    Fault("weights under another lane's slot", "attention.metal", "weights[slot] = a.round_weights", "weights[slot ^ 1] = a.round_weights", "attention, f32"),
    Fault("dimensions dealt to lanes otherwise than they are stored", "attention.metal",
          "    const int d = lane + i * kWarp;\n    if (d >= dim) continue;", "    const int d = lane * kLaneDims + i;\n    if (d >= dim) continue;", "attention, bf16, 128 dimensions"),
    Fault("a warp takes its neighbour's scratch", "attention.metal", "total.merge(split_sums<Kv>(a, query, split, shared + warp * kPageSlots, lane))",
          "total.merge(split_sums<Kv>(a, query, split, shared, lane))", "attention, f32"),
    Fault("a split one page too long", "attention.metal", "(split + 1) * kPagesPerSplit)", "(split + 1) * kPagesPerSplit + 1)", "attention in splits"),
    Fault("the sink is left out", "attention.metal", "total.l * keep + expf(sink - m)", "total.l * keep", "attention, f32"),
    Fault("the sink joins without its maximum", "attention.metal", "fmaxf(total.m, sink), keep", "total.m, keep", "attention, a window of 128"),
    Fault("heads of a group share no key", "attention.metal", "query.head / group, dim", "query.head % a.kv_heads, dim", "attention, f32"),
    Fault("lanes leave before a shuffle", "norm.metal", "  float squares = 0;", "  if (lane == 31) return;\n  float squares = 0;", "rmsnorm"),
    Fault("every second element", "norm.metal", "i < size; i += threads) squares", "i < size; i += 2 * threads) squares", "rmsnorm to bf16"),
    Fault("one element too far", "norm.metal", "for (int i = thread_index; i < size; i += threads) store", "for (int i = thread_index; i <= size; i += threads) store", "rmsnorm"),
    Fault("the first tile's tokens in every tile", "linear.metal", "(first + min(t, count - 1))", "(min(t, count - 1))", "linear, a tail of every size"),
    Fault("words dealt in blocks, not in turn", "dot.h", "int word = lane; word < k / kPerWord; word += kWarp", "int word = lane * 2; word < k / kPerWord; word += 2 * kWarp", "linear, a tail of every size"),
    Fault("a key's slot and dimension are exchanged", "qkv.metal", "page.keys + j * kPageSlots + slot", "page.keys + slot * a.head_dim + j", "rotate_append f32"),
    Fault("rotated the other way", "qkv.metal", "first * c - second * s", "first * c + second * s", "rotate_append bf16"),
    Fault("a tie goes to the same expert again", "route.metal", "key > taken", "key >= taken", "route, many experts"),
    Fault("a lane adds itself twice to the sums before it", "port.h", "if (lane >= distance) value += other;", "value += other;", "route"),
    Fault("sums before the second warp's experts are left out", "route.metal", "pairs_before += shuffle(pair, kWarp - 1);", "pairs_before = 0;", "route, many experts"),
    Fault("no barrier between counts and places", "route.metal", "sync_block();  // all counts are there", "", "route, many experts"),
    Fault("no barrier between parts and sums", "route.metal", "sync_block();  // sums of the experts are there", "", "route, many experts"),
    Fault("no barrier between places and pairs", "route.metal", "sync_block();  // sums have become places", "", "route, many experts"),
    Fault("every part of the pairs begins at its expert's first place", "route.metal", "int at = first[e] + before[i];", "int at = first[e];", "route"),
    Fault("elements of the first block in every block", "port.h", "block.y * block_extent.x + thread_index", "thread_index", "embed"),
    Fault("a row of warps that do not meet", "norm.metal", "Sum(), lane, warp, threads / kWarp)", "Sum(), lane, warp, 1)", "rmsnorm"),
    Fault("gate and up exchanged", "moe.metal", "2 * neuron, x, gate", "2 * neuron + 1, x, gate", "experts, MXFP4"),
    Fault("scales of 16 weights, not of 32", "mxfp4.h", "scales[word / 4]", "scales[word / 2]", "experts, MXFP4"),
    Fault("the high nibble first", "mxfp4.h", "codes >> (4 * i)", "codes >> (4 * (i ^ 1))", "experts, MXFP4"),
    Fault("ranks added in no order", "moe.metal", "float sum = weight[0] * y[0];", "float sum = weight[0];", "experts, bf16"),
    Fault("no barrier before the operands are read", "matrix.metal", "sync_block();  // both operands are there", "", "linear, added, more tokens than a tile"),
    Fault("no barrier before operands are replaced", "matrix.metal", "sync_block();  // all have multiplied: the next step's operands, or the sums, may take their place", "",
          "linear, added, more tokens than a tile"),
    Fault("no barrier before sums are read", "matrix.metal", "sync_block();  // all sums are there", "", "linear, a tail of every size"),
    Fault("weights not transposed", "matrix.metal", "true);", "false);", "linear, a tail of every size", True),
    Fault("a warp multiplies its neighbour's rows", "matrix.metal", "warp / 2) * 8 * kWarpRows", "warp % 2) * 8 * kWarpRows", "experts, bf16"),
    Fault("what is beyond k is read", "matrix.metal", "token < count && k0 + at < x.k", "token < count", "linear, one token, no bias"),
    Fault("tiles of an expert joined beyond it", "matrix.metal", "a.tiles[next].expert == all.expert;", "true;", "experts, MXFP4, to bf16, several tiles"),
    Fault("no barrier before the bins are counted in", "sample.metal", "sync_block();  // the bins are empty", "", "sample", True),
    Fault("no barrier before the bins are read", "sample.metal", "sync_block();  // the bins are full", "", "sample"),
    Fault("no barrier before a slice's bins are counted in", "sample.metal", "sync_block();  // the slice's bins are empty", "", "sample"),
    Fault("no barrier before a slice's bins are read", "sample.metal", "sync_block();  // the slice's bins are full", "", "sample"),
    Fault("a slice ends where the vocabulary does", "draw.h", "min((slice + 1) * kSliceTokens, a.vocab)", "a.vocab", "sample"),
    Fault("only the first slice's best token", "draw.h", "for (int s = team.index; s < slices; s += team.threads) {", "for (int s = team.index; s < 1; s += team.threads) {", "sample"),
    Fault("bins of the last step are not emptied", "sample.metal", "d.bins()[bin] = 0", "(void)d.bins()[bin]", "sample"),
    Fault("a slice's sum at another slice's scale", "sample.metal", "mul(d.parts()[s].sum, exp_pair(two_sum(given, -largest)))", "d.parts()[s].sum", "sample"),
    Fault("the cut one bin early", "sample.metal", "kKeyBinShift) > cut.last", "kKeyBinShift) >= cut.last", "sample"),
    Fault("every candidate at the same place", "sample.metal", "collected[place] = v", "collected[0 * place] = v", "sample"),
    Fault("a slice's listed tokens are its first one's", "sample.metal", "s.best_after(key, false)", "s.best_after(key, true)", "sample"),
    Fault("no barrier between edits and mask", "sample.metal", "sync_block();  // edits are written, by threads that need not be those that mask", "", "sample"),
    Fault("a carry is lost", "draw.h", "before + low < low ? 1 : 0", "0", "sample, other logits"),
    Fault("slots used again too early", "block.h", "sync_block();  // all have read: the slots may be used again", "", "sample"),
    Fault("slots of sums used again too early", "block.h", "sync_block();  // all have read the sums: the slots may be used again", "", "sample"),
    Fault("no barrier before the warps' sums are read", "block.h", "sync_block();  // every warp's sum is there", "", "sample"),
    Fault("another random number", "draw.h", "sampling::hash_token(hash, static_cast<uint32_t>(v))", "sampling::hash_token(hash, static_cast<uint32_t>(v + 1))", "sample"),
    Fault("a rounded angle", "embed.metal", "position * a.inv_freq[j]", "round_to_bf16(position) * a.inv_freq[j]", "embed"),
    Fault("a page's offset in 32 bits", "kv.h", "kv.layer + id * kv.page_bytes", "kv.layer + static_cast<int>(id * kv.page_bytes)", "rotate_append f32", True),
    Fault("an expert's first weight in 32 bits", "moe.metal", "static_cast<thread Row*>(nullptr), at)", "static_cast<thread Row*>(nullptr), static_cast<int>(at * e.k) / e.k)", "experts, MXFP4"),
    Fault("values begin a row early", "kv.h", "static_cast<size_t>(head_dim) * kPageSlots", "static_cast<size_t>(head_dim - 1) * kPageSlots", "rotate_append f32"),
    Fault("attention for a token that is not there", "attention.metal", "at / a.heads >= a.live->tokens) return;  // a whole warp", "at / a.heads > a.live->tokens) return;  // a whole warp", "attention, f32"),
    Fault("a key for a token that is not there", "qkv.metal", "token >= a.live->tokens", "token > a.live->tokens", "rotate_append f32"),
    Fault("a residual for a token that is not there", "moe.metal", "token >= a.live->tokens", "token > a.live->tokens", "experts, bf16"),
    Fault("a sample that is not there", "sample.metal", "i >= a.live->samples", "i > a.live->samples", "sample"),
    Fault("pairs beyond the first joined tiles left out", "matrix.metal", "if (tile % kJoined != 0 && a.tiles", "if (tile > 0 && a.tiles", "experts, MXFP4, to bf16, several tiles"),
    Fault("a value's head rotated", "qkv.metal", "head >= a.heads + a.kv_heads", "head > a.heads + a.kv_heads", "rotate_append f32"),
    Fault("the last split not merged", "attention.metal", "kPagesPerSplit; split * kPagesPerSplit < query.end_page(); ++split) {", "kPagesPerSplit; (split + 1) * kPagesPerSplit < query.end_page(); ++split) {", "attention in splits"),
    Fault("no barrier between choices and groups", "route.metal", "sync_block();  // all choices are there", "", "route"),
    Fault("no barrier before an edit's logit", "sample.metal", "sync_block();  // before the one edit of this token, if there is one", "", "sample"),
    Fault("no barrier behind the digit", "sample.metal", "sync_block();  // the digit is known, and the bins may be emptied", "", "sample"),
]

COPIES, INSIDE, STREAMS, EVENTS = "copies wait for what the stream does", "copies inside the device keep their place", "a stream waits for another one's event", "events say what is done"
FREES, ENDS, LATER, GRAPHS = "memory is freed when nobody uses it", "a stream ends when its work has", "kernels reach memory that came later", "graphs are run when they are launched"
REFUSED, LEFT = "what cannot be is refused", "what is left"

FAULTS += [
    Fault("a copy from or to the host waits for nothing", "runtime/stream.cpp", "  wait();\n  if (kind", "  if (kind", COPIES, True),
    Fault("a copy to the host waits for nothing", "runtime/stream.cpp", "  wait();\n  if (kind", "  if (kind == metalMemcpyHostToDevice) wait();\n  if (kind", COPIES),
    Fault("a copy to the device waits for nothing", "runtime/stream.cpp", "  wait();\n  if (kind", "  if (kind != metalMemcpyHostToDevice) wait();\n  if (kind", COPIES),
    Fault("a copy inside the device is made at once", "runtime/stream.cpp", "    if (capture_ || !idle()) {\n      Command command(Command::kCopy)", "    if (capture_) {\n      Command command(Command::kCopy)", INSIDE),
    Fault("memory is filled at once", "runtime/stream.cpp", "  if (capture_ || !idle()) {\n    Command command(Command::kFill)", "  if (capture_) {\n    Command command(Command::kFill)", INSIDE),
    Fault("a stream is idle while its work is on its way", "runtime/stream.cpp", "  return in_flight_.empty();", "  return true;", INSIDE),
    Fault("a copy and a fill lose their offset", "runtime/stream.cpp", "static_cast<char*>(place.buffer->contents()) + place.offset", "static_cast<char*>(place.buffer->contents())", INSIDE),
    Fault("a stream waits for no event", "runtime/calls.cpp", "  return metalEventSynchronize(event);", "  return event ? metalSuccess : metalErrorInvalidValue;", STREAMS),
    Fault("an event does not submit what is before it", "runtime/stream.cpp", "  submit();\n  event.stream = this;", "  event.stream = this;", EVENTS),
    Fault("an event is done when it is recorded", "runtime/stream.cpp", "  if (event.after->buffer) return false;", "", EVENTS),
    Fault("waiting for an event looks, and does not wait", "runtime/stream.cpp", "event.after->buffer->waitUntilCompleted();\n  (void)done", ";\n  (void)done", EVENTS),
    Fault("the GPU's time is not added up", "runtime/stream.cpp", "busy_ += first", "busy_ = first", EVENTS),
    Fault("memory is freed under a kernel", "runtime/device.cpp", "    one->waitUntilCompleted();\n", "", FREES, True),
    Fault("freed memory is kept", "runtime/device.cpp", "  found->second.buffer->release();\n", "", FREES),
    Fault("freed memory is still listed", "runtime/device.cpp", "  buffers_.erase(found);\n", "", FREES),
    Fault("a stream forgets its work at its end", "runtime/stream.cpp", "Stream::~Stream() {\n  try {\n    wait();", "Stream::~Stream() {\n  try {", ENDS),
    Fault("new memory is not shown to an open encoder", "runtime/device.cpp", "  if (generation == generation_) return", "  if (generation > 0) return", LATER),
    Fault("a new encoder takes its memory for shown", "runtime/stream.cpp", "  resident_ = 0;\n", "", LATER),
    Fault("an encoder is left open beside another", "runtime/stream.cpp", "  if (blit_) return blit_;\n  end_encoding();\n", "  if (blit_) return blit_;\n", LATER),
    Fault("a launch is run while it is captured", "runtime/stream.cpp", "    capture_->commands.push_back(std::move(command));\n  else\n    encode", "    capture_->commands.push_back(command);\n  encode", GRAPHS),
    Fault("a graph is submitted at each launch", "runtime/stream.cpp", "for (const Command& command : graph.commands) put(command);", "for (const Command& command : graph.commands) put(command);\n  submit();", GRAPHS),
    Fault("the end of memory is not looked at", "runtime/device.cpp", "address - begin + bytes <= held", "address - begin <= held", REFUSED),
    Fault("more arguments than fit", "runtime/stream.cpp", "kMostArgumentBytes = 4096", "kMostArgumentBytes = 8192", REFUSED),
    Fault("more threads than there can be", "runtime/stream.cpp", "  if (threads > pipeline", "  if (threads > 4 * pipeline", REFUSED),
    Fault("more threadgroup memory than there is", "runtime/stream.cpp", "const size_t padded = (threadgroup_bytes + 15) / 16 * 16;", "const size_t padded = threadgroup_bytes / 16 * 16;", REFUSED),
    Fault("an error is told for ever", "runtime/calls.cpp", "  last = metalSuccess;", "  //", REFUSED),
    Fault("what a command buffer failed with is lost", "runtime/stream.cpp", "first.error = text_of(first.buffer->error());", ";", REFUSED),
    Fault("the program is compiled for every kernel", "runtime/device.cpp", "  if (!library_) compile();", "  compile();", LEFT, True),
    Fault("a kernel is compiled for every launch", "runtime/device.cpp", "  if (known != pipelines_.end()) return known->second;\n", "  (void)known;\n", LEFT),
    Fault("compile options leak", "runtime/device.cpp", "  options->release();\n", "", LEFT),
    Fault("compile options are released twice", "runtime/device.cpp", "  options->release();\n", "  options->release();\n  options->release();\n", COPIES),
    Fault("a function leaks", "runtime/device.cpp", "  function->release();\n", "", LEFT),
    Fault("a function is released too early", "runtime/device.cpp", "  NS::Error* error = nullptr;\n  MTL::ComputePipelineState*", "  function->release();\n  NS::Error* error = nullptr;\n  MTL::ComputePipelineState*", COPIES),
    Fault("the list of devices leaks", "runtime/device.cpp", "  if (all) all->release();\n", "", LEFT),
    Fault("the device is nobody's", "runtime/device.cpp", "device_(device->retain())", "device_(device)", LEFT),
    Fault("a command buffer is retained once more", "runtime/stream.cpp", "  open_->commit();", "  open_->retain()->commit();", LEFT),
    Fault("a command buffer is not retained", "runtime/stream.cpp", "commandBuffer()->retain();\n  resident_", "commandBuffer();\n  resident_", LATER),
    Fault("command buffers that are done pile up", "runtime/stream.cpp", "    first.buffer->release();\n", "", LEFT),
    Fault("command buffers that a free has waited for leak", "runtime/device.cpp", "    one->release();\n", "", LEFT),
    Fault("a command buffer that a free waits for is not kept", "runtime/stream.cpp", "to.push_back(one->buffer->retain())", "to.push_back(one->buffer)", FREES),
    Fault("an encoder leaks", "runtime/stream.cpp", "    compute_->release();\n", "", LEFT),
    Fault("a copy's encoder is not retained", "runtime/stream.cpp", "blitCommandEncoder()->retain()", "blitCommandEncoder()", LATER),
    Fault("no pool where the program is compiled", "runtime/device.cpp", "void Device::compile() {\n  const Pool pool;\n", "void Device::compile() {\n", COPIES),
    Fault("no pool where a kernel is looked up", "runtime/device.cpp", "  if (!library_) compile();\n  const Pool pool;\n", "  if (!library_) compile();\n", COPIES),
    Fault("no pool where commands are encoded", "runtime/stream.cpp", "void Stream::encode(const Command& command) {\n  const Pool pool;\n", "void Stream::encode(const Command& command) {\n", COPIES),
    Fault("no pool where a failure is read", "runtime/stream.cpp", "bool Stream::done(const Event& event) {\n  const Pool pool;\n", "bool Stream::done(const Event& event) {\n", REFUSED),
]
