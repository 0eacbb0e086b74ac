// pack, swiglu_pack, sum_squares, and the two loops that benches use as ceilings.
#pragma once

#include <cmath>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "numeric.h"

namespace test {

using gptoss::cpu::Kernels;
using gptoss::cpu::packed_at;

// Values at which rounding to bf16 is decided: ties to even, carries, signed zeros, subnormals, the largest.
inline float awkward(Random& random, int i) {
  static const uint32_t bits[] = {0x3f808000, 0x3f818000, 0x3f807fff, 0x3f808001, 0x3fffffff,
                                  0x80000000, 0x00000000, 0x00000001, 0x80008000, 0x007fffff,
                                  0x7f7f7fff, 0x7f7fffff, 0xff7fffff, 0x7f800000};
  constexpr int n = sizeof bits / sizeof bits[0];
  return i % 3 == 0 ? gptoss::float_from_bits(bits[random.below(n)]) : random.normal();
}

// One rounding per operation, so plain float code gives the very bits.
inline void pack_cases(const Kernels& kernels) {
  Random random(11);
  for (int n : {1, 2, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 80, 96, 100, 352})
    for (bool with_gain : {false, true})
      for (bool round : {false, true}) {
        const float scale = with_gain ? 0.3712f : 1.0f;
        Fenced<float> x(n, n % 4 * 4), gain(n);
        for (int i = 0; i < n; ++i) {
          x[i] = awkward(random, i);
          gain[i] = 1 + 0.2f * random.normal();
        }
        const int padded = (n + 31) / 32 * 32, floats = kernels.floats(n, round);
        Output out(1, floats, floats);
        kernels.pack(x.data(), with_gain ? gain.data() : nullptr, scale, n, round, out.data());
        CHECK(out.intact(), "%s pack n %d: wrote elsewhere", kernels.name, n);
        std::vector<float> want(padded, 0.0f);
        for (int i = 0; i < n; ++i) {
          volatile float y = x[i] * scale;  // volatile: no excess precision, no fusing
          if (with_gain) y = y * gain[i];
          // Terms below the normal numbers are 0. The three terms of an infinity add up to no number.
          const bool flushed = kernels.packs_terms(round) && std::fabs(y) < 0x1p-126f;
          want[i] = round ? gptoss::round_to_bf16(flushed ? y * 0 : y) : y;
        }
        for (int i = 0; i < padded; ++i) {
          const float got = packed_at(kernels, out.data(), i, round);
          const bool lost = kernels.packs_terms(round) && !round && !std::isfinite(want[i]);
          const bool subnormal_term = kernels.packs_terms(round) && !round && std::fabs(want[i]) < 0x1p-102f;
          CHECK(lost                                                ? !std::isfinite(got)
                : subnormal_term                                    ? std::fabs(got - want[i]) < 0x1p-126f
                : kernels.packs_terms(round) ? got == want[i] : same_bits(got, want[i]),
                "%s pack n %d round %d place %d: %.9g, wanted %.9g", kernels.name, n, round, i, got, want[i]);
        }
      }
}

inline void sum_squares_cases(const Kernels& kernels) {
  Random random(12);
  for (int n = 1; n < 80; ++n) {
    Fenced<float> x(n);
    double sum = 0;
    for (int i = 0; i < n; ++i) {
      x[i] = 100 * random.normal();
      sum += static_cast<double>(x[i]) * x[i];
    }
    const double got = kernels.sum_squares(x.data(), n);
    CHECK(std::fabs(got - sum) <= (n + 4) * 0x1p-24 * sum, "%s sum_squares n %d: %.9g, wanted %.9g",
          kernels.name, n, got, sum);
  }
}

inline double swiglu(double gate, double up, double limit, double alpha) {
  gate = std::fmin(gate, limit);
  up = std::fmax(-limit, std::fmin(limit, up));
  return gate / (1 + std::exp(-alpha * gate)) * (up + 1);
}

inline void swiglu_cases(const Kernels& kernels) {
  Random random(13);
  // Where the clamps begin, where e^x is no float any more, and far beyond.
  const float edges[] = {7,     6.9999995f, -7,     7.5f, -1,   0,  -0.0f,   1e4f,
                         -1e4f, -51,        -52.1f, -61,  -100, 88, -1e-30f, 1e30f};
  for (int n : {32, 64, 96, 160})
    for (float limit : {7.0f, 0.5f}) {
      Fenced<float> u(2 * n, n % 64 ? 4 : 0);
      Fenced<uint16_t> bias(2 * n, n % 64 ? 2 : 8);
      for (int i = 0; i < 2 * n; ++i) {
        u[i] = random.below(3) ? 4 * random.normal() : edges[random.below(sizeof edges / sizeof edges[0])];
        bias[i] = gptoss::float_to_bf16(random.below(2) ? 0.3f * random.normal() : 0);
      }
      const int plain_floats = kernels.floats(n, false), round_floats = kernels.floats(n, true);
      Output plain(1, plain_floats, plain_floats), rounded(1, round_floats, round_floats);
      kernels.swiglu_pack(u.data(), bias.data(), n, limit, 1.702f, false, plain.data());
      kernels.swiglu_pack(u.data(), bias.data(), n, limit, 1.702f, true, rounded.data());
      CHECK(plain.intact() && rounded.intact(), "%s swiglu_pack n %d: wrote elsewhere", kernels.name, n);
      for (int i = 0; i < n; ++i) {
        const float gate = u[2 * i] + gptoss::bf16_to_float(bias[2 * i]);
        const float up = u[2 * i + 1] + gptoss::bf16_to_float(bias[2 * i + 1]);
        const double want = swiglu(gate, up, limit, 1.702f), got = packed_at(kernels, plain.data(), i, false);
        // The error of the exponent's argument, which is below 88, becomes a relative one.
        const double relative = 8 * 0x1p-24 + 2 * 0x1p-24 * std::fmin(88.0, std::fabs(1.702 * gate));
        CHECK(std::fabs(got - want) <= relative * std::fabs(want) + 1e-30,
              "%s swiglu gate %g up %g: %.9g, wanted %.9g", kernels.name, gate, up, got, want);
        const float as_bf16 = packed_at(kernels, rounded.data(), i, true);
        CHECK(as_bf16 == gptoss::round_to_bf16(static_cast<float>(got)),
              "%s swiglu gate %g up %g: rounded to %.9g, not rounded it is %.9g", kernels.name, gate, up, as_bf16, got);
      }
      // The same neurons in a shorter call.
      const int last = kernels.floats(n - 32, false), group = kernels.floats(32, false);
      Output part(1, group, group);
      kernels.swiglu_pack(u.data() + 2 * (n - 32), bias.data() + 2 * (n - 32), 32, limit, 1.702f, false,
                          part.data());
      CHECK(std::memcmp(part.data(), plain.data() + last, group * sizeof(float)) == 0,
            "%s swiglu: other bits in other company", kernels.name);
    }
}

// What a model that is broken puts in must be seen at the end, not silently become a number.
inline void swiglu_keeps_nan(const Kernels& kernels) {
  Fenced<float> u(64);
  Fenced<uint16_t> bias(64);
  for (int i = 0; i < 64; ++i) u[i] = 1, bias[i] = 0;
  u[6] = u[41] = NAN;  // the gate of neuron 3, the up of neuron 20
  const int group = kernels.floats(32, false);
  Output out(1, group, group);
  kernels.swiglu_pack(u.data(), bias.data(), 32, 7, 1.702f, false, out.data());
  for (int i = 0; i < 32; ++i)
    CHECK(std::isnan(packed_at(kernels, out.data(), i, false)) == (i == 3 || i == 20), "%s swiglu neuron %d: %g",
          kernels.name, i, packed_at(kernels, out.data(), i, false));
}

inline void ceilings(const Kernels& kernels) {
  Fenced<float> ones(4096);
  for (size_t i = 0; i < ones.size(); ++i) ones[i] = 1;
  CHECK(kernels.read_sum(ones.data(), 4096 * sizeof(float)) == 4096, "%s read_sum", kernels.name);
  long flops = 0;
  const float result = kernels.multiply_add(1000, &flops);
  CHECK(std::isfinite(result) && flops >= 2000 * kernels.lanes, "%s multiply_add: %ld", kernels.name, flops);
  if (!kernels.matrix_multiply_add) return;
  const float sum = kernels.matrix_multiply_add(10, &flops);  // tiles: one of many sums; else all of them
  CHECK(kernels.most_tokens == gptoss::cpu::kPanelTokens ? sum == 320 && flops == 10 * 4 * 2 * 16 * 16 * 32 : 2 * sum == static_cast<float>(flops) && flops > 0,
        "%s matrix_multiply_add: %g, %ld", kernels.name, sum, flops);
}

inline void elementwise_cases(const Kernels& kernels) {
  pack_cases(kernels);
  sum_squares_cases(kernels);
  swiglu_cases(kernels);
  swiglu_keeps_nan(kernels);
  ceilings(kernels);
}

}  // namespace test
