// MFMA and WMMA: the layouts are those that AMD's matrix instruction calculator prints.
#include "amdgcn/matrix.cuh"

#include "../core/collective.h"
#include "../core/fault.h"

namespace gptoss::amdgcn {
namespace {

using namespace ::emulator;

float widen(short bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(static_cast<uint16_t>(bits)) << 16);
}

template <class A, class D>
struct Operand {
  D* d;
  const A *a, *b;
  Site site;
};

// The hardware ignores the execution mask, so lanes elsewhere would contribute what their registers happen to
// hold.
template <class O>
void expect_wave(const Participants& wave, int lanes, const char* name) {
  int here = 0;
  while (wave.thread[here] == nullptr) ++here;
  const Site site = wave.operand<O>(here).site;
  if (wave.size != lanes)
    fault_of(*wave.thread[here], Kind::kInstruction, Where::of(site), "%s in a wave of %d lanes, not %d",
             name, wave.size, lanes);
  for (int lane = 0; lane < lanes; ++lane)
    if (wave.thread[lane] == nullptr)
      fault_of(*wave.thread[here], Kind::kDivergence, Where::of(site),
               "%s in divergent code: lane %d takes no part", name, lane);
}

// d[kSize, kSize] += a[kSize, kDepth] b[kSize, kDepth]^T, four elements along k in each lane.
template <int kSize, int kDepth, class D>
void apply_mfma(Participants& wave) {
  using O = Operand<Bf16x4, D>;
  expect_wave<O>(wave, 64, "mfma");
  float a[kSize][kDepth], b[kSize][kDepth];
  for (int lane = 0; lane < 64; ++lane)
    for (int i = 0; i < 4; ++i) {
      a[lane % kSize][lane / kSize * 4 + i] = widen((*wave.operand<O>(lane).a)[i]);
      b[lane % kSize][lane / kSize * 4 + i] = widen((*wave.operand<O>(lane).b)[i]);
    }
  constexpr int kLaneRows = 4 * 64 / kSize;  // rows that the lanes hold at one i / 4
  for (int lane = 0; lane < 64; ++lane)
    for (int i = 0; i < kSize * kSize / 64; ++i) {
      const int row = i / 4 * kLaneRows + lane / kSize * 4 + i % 4, column = lane % kSize;
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += a[row][k] * b[column][k];
      (*wave.operand<O>(lane).d)[i] += sum;
    }
}

void apply_wmma(Participants& wave) {
  using O = Operand<Bf16x16, Float8>;
  expect_wave<O>(wave, 32, "wmma");
  for (int lane = 0; lane < 16; ++lane)
    for (int k = 0; k < 16; ++k) {
      const O &low = wave.operand<O>(lane), &high = wave.operand<O>(lane + 16);
      if ((*low.a)[k] != (*high.a)[k] || (*low.b)[k] != (*high.b)[k])
        fault_of(*wave.thread[lane], Kind::kInstruction, Where::of(low.site),
                 "wmma: lanes %d and %d have to hold the same rows", lane, lane + 16);
    }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 8; ++i) {
      const Bf16x16 &a = *wave.operand<O>(2 * i + lane / 16).a, &b = *wave.operand<O>(lane % 16).b;
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += widen(a[k]) * widen(b[k]);
      (*wave.operand<O>(lane).d)[i] += sum;
    }
}

// Lanes 0 to 15 hold the first eight columns of their rows, lanes 16 to 31 the others.
void apply_wmma_halves(Participants& wave) {
  using O = Operand<Bf16x8, Float8>;
  expect_wave<O>(wave, 32, "wmma");
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 8; ++i) {
      const int row = 8 * (lane / 16) + i, column = lane % 16;
      float sum = 0;
      for (int k = 0; k < 16; ++k)
        sum += widen((*wave.operand<O>(row + k / 8 * 16).a)[k % 8]) * widen((*wave.operand<O>(column + k / 8 * 16).b)[k % 8]);
      (*wave.operand<O>(lane).d)[i] += sum;
    }
}

}  // namespace

void mfma_16x16x16_bf16(Float4& d, const Bf16x4& a, const Bf16x4& b, Site site) {
  const Inside inside;
  static const Collective kMfma{"mfma 16x16x16", Scope::kActive, apply_mfma<16, 16, Float4>};
  Operand<Bf16x4, Float4> operand{&d, &a, &b, site};
  collect(kMfma, 0, &operand, site);
}

void mfma_32x32x8_bf16(Float16& d, const Bf16x4& a, const Bf16x4& b, Site site) {
  const Inside inside;
  static const Collective kMfma{"mfma 32x32x8", Scope::kActive, apply_mfma<32, 8, Float16>};
  Operand<Bf16x4, Float16> operand{&d, &a, &b, site};
  collect(kMfma, 0, &operand, site);
}

void wmma_16x16x16_bf16(Float8& d, const Bf16x16& a, const Bf16x16& b, Site site) {
  const Inside inside;
  static const Collective kWmma{"wmma 16x16x16", Scope::kActive, apply_wmma};
  Operand<Bf16x16, Float8> operand{&d, &a, &b, site};
  collect(kWmma, 0, &operand, site);
}

void wmma_16x16x16_bf16_halves(Float8& d, const Bf16x8& a, const Bf16x8& b, Site site) {
  const Inside inside;
  static const Collective kWmma{"wmma 16x16x16 (halves)", Scope::kActive, apply_wmma_halves};
  Operand<Bf16x8, Float8> operand{&d, &a, &b, site};
  collect(kWmma, 0, &operand, site);
}

}  // namespace gptoss::amdgcn
