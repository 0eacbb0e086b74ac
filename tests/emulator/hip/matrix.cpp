// MFMA and WMMA: the layouts are those that AMD's matrix instruction calculator prints.
#include "amdgcn/bits.cuh"
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

// Of registers that nobody has set, -ftrivial-auto-var-init=pattern makes 0xfe in every byte. The other operand's zeros are no
// excuse: in hardware there may be a NaN.
template <class V>
bool is_unset(const V& registers) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&registers);
  for (size_t i = 0; i < sizeof registers; i += 4)
    if (bytes[i] == 0xfe && bytes[i + 1] == 0xfe && bytes[i + 2] == 0xfe && bytes[i + 3] == 0xfe) return true;
  return false;
}
template <class O>
void expect_set(const Participants& wave, const char* name) {
  for (int lane = 0; lane < wave.size; ++lane) {
    const O& o = wave.operand<O>(lane);
    if (is_unset(*o.a) || is_unset(*o.b))
      fault_of(*wave.thread[lane], Kind::kInstruction, Where::of(o.site), "%s: lane %d's operands were never set", name, lane);
  }
}

// d[kSize, kSize] += a[kSize, kDepth] b[kSize, kDepth]^T, four elements along k in each lane.
template <int kSize, int kDepth, class D>
void apply_mfma(Participants& wave) {
  using O = Operand<Bf16x4, D>;
  expect_wave<O>(wave, 64, "mfma");
  expect_set<O>(wave, "mfma");
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
  expect_set<O>(wave, "wmma");
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
  expect_set<O>(wave, "wmma");
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 8; ++i) {
      const int row = 8 * (lane / 16) + i, column = lane % 16;
      float sum = 0;
      for (int k = 0; k < 16; ++k)
        sum += widen((*wave.operand<O>(row + k / 8 * 16).a)[k % 8]) * widen((*wave.operand<O>(column + k / 8 * 16).b)[k % 8]);
      (*wave.operand<O>(lane).d)[i] += sum;
    }
}

struct ScaledOperand {
  Float4* d;
  const Fp4x32* a;
  const Fp8x32* b;
  int a_scale, b_scale;
  Site site;
};
void apply_scaled_mfma(Participants& wave) {
  constexpr float kMagnitude[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  using O = ScaledOperand;
  expect_wave<O>(wave, 64, "mfma");
  expect_set<O>(wave, "mfma");
  static float a[16][128], b[16][128];  // all on one thread of the host
  for (int lane = 0; lane < 64; ++lane)
    for (int i = 0; i < 32; ++i) {
      const O& o = wave.operand<O>(lane);
      const uint32_t code = static_cast<uint32_t>((*o.a)[i / 8]) >> (4 * (i % 8)) & 15;
      const uint32_t byte = static_cast<uint32_t>((*o.b)[i / 4]) >> (8 * (i % 4)) & 255;
      const int at = lane / 16 * 32 + i;
      a[lane % 16][at] = std::ldexp(code & 8 ? -kMagnitude[code & 7] : kMagnitude[code & 7], (o.a_scale & 255) - 127);
      b[lane % 16][at] = std::ldexp(e4m3_value(byte), (o.b_scale & 255) - 127);
    }
  for (int lane = 0; lane < 64; ++lane)
    for (int i = 0; i < 4; ++i) {
      float sum = 0;
      for (int k = 0; k < 128; ++k) sum += a[lane / 16 * 4 + i][k] * b[lane % 16][k];
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

void mfma_16x16x128_fp4_fp8(Float4& d, const Fp4x32& a, int a_scale, const Fp8x32& b, int b_scale, Site site) {
  const Inside inside;
  static const Collective kMfma{"mfma 16x16x128 fp4 fp8", Scope::kActive, apply_scaled_mfma};
  ScaledOperand operand{&d, &a, &b, a_scale, b_scale, site};
  collect(kMfma, 0, &operand, site);
}

}  // namespace gptoss::amdgcn
