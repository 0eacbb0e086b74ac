// The attention of cuda/wgmma against float64 and against the bits of cuda/mma's: windows at the edges of pages, ragged steps of
// several sequences, rings that go round; and faults planted in copies of its source (cmake/PlantFaults.cmake).
#include <cstring>

#include "attention_cases.h"
#include "mma/attention.cuh"
#include "planted/wgmma_attention.h"
#include "tensor_map.h"
#include "wgmma/attention.cuh"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using attention::Case;

// A grid that is larger than the step.
using Start = void (*)(const AttentionArgs& a, int tokens);
void start_mma(const AttentionArgs& a, int tokens) {
  const unsigned tile = cuda::kPrefillColumns / (a.heads / a.kv_heads);
  (void)simt::allow_dynamic_shared(cuda::attn_prefill, cuda::kPrefillShared);
  (void)simt::launch(cuda::attn_prefill, {.grid = dim3(tokens / tile + 2, a.kv_heads), .block = dim3(cuda::kAttnThreads),
                                          .dynamic_shared = cuda::kPrefillShared}, MmaAttentionArgs{a, nullptr, nullptr});
}
#define GPTOSS_START(space)                                                                                                \
  [](const AttentionArgs& a, int tokens) {                                                                                 \
    namespace k = gptoss::space;                                                                                           \
    k::PrefillArgs args{a, {}};                                                                                            \
    const size_t bytes = (a.kv.pool_pages - 1) * a.kv.page_bytes + a.kv_heads * a.kv.head_bytes;                           \
    if (!cuda::make_tensor_map(&args.pages, a.kv.layer, bytes / k::kPageRowBytes, 64, 64, k::kPageRows, 64)) return;       \
    const unsigned tile = k::kQueries / (a.heads / a.kv_heads);                                                            \
    (void)simt::allow_dynamic_shared(k::wgmma_attn_prefill, k::PageRing::kBytes);                                          \
    (void)simt::launch(k::wgmma_attn_prefill, {.grid = dim3(a.kv_heads, tokens / tile + 2), .block = dim3(k::kAttnThreads), \
                                               .dynamic_shared = k::PageRing::kBytes}, args);                              \
  }

double run(const Case& c, const Start& start) {
  attention::Operands operands(c);
  start(operands.args(), c.tokens());
  return operands.error();
}

struct Results {
  std::vector<float> attn, lse;
  std::vector<uint16_t> terms;
};
Results results(const Case& c, const Start& start, bool stepped) {
  attention::Operands operands(c);
  AttentionArgs args = operands.args();
  args.stepped = stepped;
  start(args, c.tokens());
  return {operands.attn.host(), operands.lse.host(), operands.terms.host()};
}
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
// 0 where they are the same, which mma.sync and wgmma give where both add the products of a step alike.
double differing(const Case& c, bool stepped, const Start& start = GPTOSS_START(cuda::wgmma)) {
  const Results mine = results(c, start, stepped), other = results(c, start_mma, stepped);
  return same(mine.attn, other.attn) && same(mine.lse, other.lse) && same(mine.terms, other.terms) ? 0 : 1e30;
}

void planted(const char* name, const std::vector<Kind>& kinds, const Start& start) {
  static const Case ragged(8, 1, 100, {386, 75, 30}, {10, 8, 3});  // the first warpgroup sees a page less than the second
  expect_caught(name, kinds, [=] { return run(ragged, start); });
}
void planted_in_long(const char* name, const std::vector<Kind>& kinds, const Start& start) {
  static const Case many(8, 1, 0, {460}, {30});  // more pages than stages
  expect_caught(name, kinds, [=] { return run(many, start); });
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  const Start start = GPTOSS_START(cuda::wgmma);
  for (int end : {1, 63, 64, 65, 128}) {
    const Case c(8, 1, 0, {end}, {std::min(end, 26)});
    expect_clean(("one sequence of " + std::to_string(end)).c_str(), [&] { return run(c, start); }, 2);
  }
  for (int window : {1, 64, 65, 100, 128}) {
    const Case c(16, 2, window, {300, 192}, {30, 21});
    expect_clean(("a window of " + std::to_string(window)).c_str(), [&] { return run(c, start); }, 2);
  }
  for (int window : {0, 1, 100}) {
    const Case c(8, 1, window, {90, 75, 400, 2}, {11, 8, 3, 2});
    expect_clean("four sequences in a tile", [&] { return run(c, start); }, 3);
  }
  {
    const Case c(8, 1, 0, {600}, {30});
    expect_clean("more pages than stages", [&] { return run(c, start); }, 3);
  }
  {
    const Case c(4, 2, 0, {166, 70}, {100, 7});
    expect_clean("groups of two", [&] { return run(c, start); }, 1);
  }
  {
    const Case c(2, 2, 70, {210}, {200});
    expect_clean("groups of one", [&] { return run(c, start); }, 1);
  }
  for (bool stepped : {false, true}) {
    const Case whole(8, 1, 0, {330}, {70}), windows(16, 2, 128, {300, 40}, {29, 40}), pairs(4, 2, 0, {166, 70}, {100, 7});
    for (const Case* c : {&whole, &windows, &pairs})
      expect_clean("the bits of mma.sync", [&] { return differing(*c, stepped); }, 1);
  }

  planted("ring: the bytes of a page not announced", {Kind::kInFlight, Kind::kDeadlock}, GPTOSS_START(page_half_announced));
  planted_in_long("ring: no wait for an empty stage", {Kind::kInFlight, Kind::kInstruction, Kind::kRace}, GPTOSS_START(page_not_empty));
  planted_in_long("ring: one warp too few expected", {Kind::kInFlight, Kind::kDeadlock, Kind::kInstruction, Kind::kRace},
                  GPTOSS_START(page_one_arrival_too_few));
  planted("ring: no barrier after making mbarriers", {Kind::kRace, Kind::kInstruction}, GPTOSS_START(page_no_first_barrier));
  planted("ring: a page that is not waited for", {Kind::kInFlight, Kind::kRace, Kind::kDeadlock}, GPTOSS_START(page_not_waited_for));
  planted("ring: the wrong parity", {Kind::kInFlight, Kind::kRace, Kind::kDeadlock}, GPTOSS_START(page_wrong_parity));
  planted_in_long("ring: values of the stage before", {Kind::kInFlight, Kind::kRace}, GPTOSS_START(page_stale_stage));
  planted_in_long("ring: a stage given back too early", {Kind::kInFlight, Kind::kRace}, GPTOSS_START(page_early_release));
  planted("ring: pages that are passed without a wait", {Kind::kInFlight, Kind::kDeadlock, Kind::kInstruction, Kind::kRace},
          GPTOSS_START(page_passed_early));
  planted("ring: pages behind a warpgroup's own not given back", {Kind::kInstruction, Kind::kDeadlock}, GPTOSS_START(page_not_passed));
  planted("ring: another head's page", {}, GPTOSS_START(page_wrong_head));
  planted("ring: another sequence's page", {}, GPTOSS_START(page_wrong_sequence));
  planted("ring: values never written", {}, GPTOSS_START(page_unwritten_values));
  planted("ring: one value too few", {}, GPTOSS_START(page_zeros_early));
  planted("ring: zeros before the page has landed", {Kind::kInFlight, Kind::kRace}, GPTOSS_START(page_not_landed));
  planted("ring: no proxy fence behind zeros", {Kind::kProxyFence}, GPTOSS_START(page_no_proxy_fence));
  planted("ring: other lanes' zeros", {Kind::kRace, Kind::kProxyFence}, GPTOSS_START(page_no_warp_barrier));
  planted("keys: a step of eight rows", {}, GPTOSS_START(attend_wrong_step));
  planted("keys: not transposed", {}, GPTOSS_START(attend_not_transposed));
  planted("values: those of keys", {}, GPTOSS_START(attend_keys_as_values));
  planted("queries: the wrong half of a step", {}, GPTOSS_START(attend_wrong_half));
  planted("scores: that do not begin anew", {}, GPTOSS_START(attend_scores_go_on));
  planted("scores: not waited for", {}, GPTOSS_START(attend_no_wait_for_scores));
  planted("sums: not waited for", {Kind::kInFlight}, GPTOSS_START(attend_no_wait_for_sums));
  planted("weights: overwritten while they are multiplied", {Kind::kInFlight}, GPTOSS_START(attend_early_weights));
  planted("registers: no fence", {Kind::kInFlight}, GPTOSS_START(attend_no_fence));
  planted("softmax: a maximum not scaled", {}, GPTOSS_START(attend_no_rescale));
  planted("softmax: the other row's scale", {}, GPTOSS_START(attend_other_row));
  planted("softmax: a maximum of one lane", {}, GPTOSS_START(attend_one_lane));
  expect_caught("softmax: sums in another order than those of mma.sync", {},
                [] { return differing(Case(8, 1, 0, {100}, {20}), false, GPTOSS_START(attend_other_order)); });
  planted("mask: off by one at the end", {}, GPTOSS_START(attend_sees_the_future));
  planted("mask: off by one at the window", {}, GPTOSS_START(attend_sees_behind_the_window));
  planted("mask: the other sequence's keys", {}, GPTOSS_START(attend_all_sequences));
  planted_in_long("mask: left out where one token sees all of a page", {}, GPTOSS_START(attend_whole_for_some));
  planted("mask: left out where two sequences share a warpgroup", {}, GPTOSS_START(attend_not_alone));
  planted("pages: the last one left out", {}, GPTOSS_START(attend_one_page_less));
  planted("pages: all from the first one on", {}, GPTOSS_START(attend_all_pages));
  planted("sink: twice", {}, GPTOSS_START(attend_sink_twice));
  planted("sink: another head's", {}, GPTOSS_START(attend_other_sink));
  return harness::finish("wgmma_attention_test");
}
