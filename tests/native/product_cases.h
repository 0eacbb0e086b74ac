// dot_bf16, dot_mxfp4, dot_int8, dot_bf16_transposed against float64, and every element bit for bit equal to itself
// computed alone, whatever rows and tokens are computed beside it.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "numeric.h"
#include "quantize.h"

namespace test {

using gptoss::cpu::DotArgs;
using gptoss::cpu::Kernels;

enum class Format { bf16, mxfp4, int8, transposed };

inline const char* name_of(Format format) {
  switch (format) {
    case Format::bf16: return "bf16";
    case Format::mxfp4: return "mxfp4";
    case Format::int8: return "int8";
    case Format::transposed: return "bf16 transposed";
  }
  return "";
}

inline std::unique_ptr<Fenced<float>> packed(const Kernels& kernels, const float* x, int k, bool rounded = false) {
  auto out = std::make_unique<Fenced<float>>(static_cast<size_t>(kernels.floats(k, rounded)));
  kernels.pack(x, nullptr, 1.0f, k, rounded, out->data());
  return out;
}

// What a kernel makes of a weight.
inline double used(const Kernels& kernels, bool rounded, double weight) {
  return kernels.packs_terms(rounded) && std::fabs(weight) < 0x1p-126 ? 0 : weight;
}

// Whether such a product is one of integers where it is not exact.
inline bool of_integers(const Kernels& kernels, Format format) {
  return kernels.integers && (format == Format::mxfp4 || format == Format::int8);
}

struct Matrix {
  Format format;
  int rows, k;
  size_t row_bytes, scale_bytes;
  Fenced<uint8_t> weight, scales;

  Matrix(Format f, int rows_, int k_, size_t misalign)
      : format(f),
        rows(rows_),
        k(k_),
        row_bytes(f == Format::bf16    ? 2 * k_
                  : f == Format::mxfp4 ? k_ / 2
                  : f == Format::int8  ? (k_ + 31) / 32 * 32
                                       : 2 * rows_),
        scale_bytes(f == Format::mxfp4 || f == Format::int8 ? (k_ + 31) / 32 : 0),
        weight(f == Format::transposed ? k_ * row_bytes : rows_ * row_bytes, misalign),
        scales(rows_ * scale_bytes, misalign % 2) {}

  void set_bf16(int r, int i, uint16_t bits) {
    uint8_t* at = format == Format::bf16 ? weight.data() + r * row_bytes + 2 * i
                                         : weight.data() + i * row_bytes + 2 * r;
    std::memcpy(at, &bits, sizeof bits);
  }
  void set_code(int r, int i, int code) {
    uint8_t& byte = weight[r * row_bytes + i / 2];
    byte = static_cast<uint8_t>(i % 2 ? (byte & 0x0f) | code << 4 : (byte & 0xf0) | code);
  }
  uint8_t& int8_at(int r, int i) { return weight[r * row_bytes + packed_place(i)]; }
  double value(int r, int i) const {
    if (format == Format::int8)
      return static_cast<int8_t>(weight[r * row_bytes + packed_place(i)]) *
             std::ldexp(1.0, scales[r * scale_bytes + i / 32] - 127);
    if (format == Format::mxfp4) {
      const int byte = weight[r * row_bytes + i / 2], code = i % 2 ? byte >> 4 : byte & 15;
      return gptoss::kE2m1[code] * std::ldexp(1.0, scales[r * scale_bytes + i / 32] - 127);
    }
    uint16_t bits;
    const size_t at = format == Format::bf16 ? r * row_bytes + 2 * i : i * row_bytes + 2 * r;
    std::memcpy(&bits, weight.data() + at, sizeof bits);
    return gptoss::bf16_to_float(bits);
  }
  void fill(Random& random) {
    for (int r = 0; r < rows; ++r) {
      for (int g = 0; g < static_cast<int>(scale_bytes); ++g)
        scales[r * scale_bytes + g] = static_cast<uint8_t>(121 + random.below(6));
      for (int i = 0; i < k; ++i) {
        if (format == Format::mxfp4)
          set_code(r, i, random.below(16));
        else if (format == Format::int8)
          int8_at(r, i) = static_cast<uint8_t>(random.below(255) - 127);
        else
          set_bf16(r, i, gptoss::float_to_bf16(random.normal()));
      }
    }
  }
};

// y of rows [row, row + rows) and of the tokens given, computed by the kernel, its surroundings checked.
inline std::vector<float> multiply(const Kernels& kernels, const Matrix& m, int row, int rows,
                                   const std::vector<const float*>& x, bool exact = true) {
  const size_t stride = rows + 3, offset = m.format == Format::transposed ? 2 * row : row * m.row_bytes;
  Output y(x.size(), rows, stride);
  Scratch scratch(gptoss::cpu::dot_scratch_floats(m.k));
  const int tokens = static_cast<int>(x.size());
  const bool integers = !exact && of_integers(kernels, m.format);
  Fenced<uint8_t> panel(integers || tokens >= kernels.panel_from ? kernels.panel_bytes(tokens, m.k, !exact) : 0);
  if (panel.size() > 0)
    for (int t = 0; t < tokens; t += gptoss::cpu::kTileColumns) {
      const int count = std::min(tokens - t, gptoss::cpu::kTileColumns);
      uint8_t* to = panel.data() + kernels.panel_bytes(t, m.k, !exact);
      if (integers)
        kernels.integers(x.data() + t, count, tokens, m.k, m.format == Format::mxfp4, to);
      else
        kernels.panel(x.data() + t, count, m.k, exact, to);
    }
  const auto dot = m.format == Format::bf16    ? kernels.dot_bf16
                   : m.format == Format::mxfp4 ? kernels.dot_mxfp4
                   : m.format == Format::int8  ? kernels.dot_int8
                                               : kernels.dot_bf16_transposed;
  dot({.weight = m.weight.data() + offset,
       .scales = m.scale_bytes ? m.scales.data() + row * m.scale_bytes : nullptr,
       .row_bytes = m.row_bytes,
       .scale_bytes = m.scale_bytes,
       .rows = rows,
       .k = m.k,
       .x = x.data(),
       .panel = panel.size() > 0 ? panel.data() : nullptr,
       .exact = exact,
       .tokens = tokens,
       .y = y.data(),
       .y_stride = stride,
       .scratch = scratch.data(),
       .next = nullptr,
       .next_scales = nullptr});
  CHECK(y.intact(), "%s %s: rows %d tokens %zu k %d: wrote elsewhere", kernels.name, name_of(m.format), rows,
        x.size(), m.k);
  std::vector<float> values;
  for (size_t t = 0; t < x.size(); ++t) values.insert(values.end(), y.row(t), y.row(t) + rows);
  return values;
}

// What products of integers make of a group of activations: multiples of 2^-13 of the largest's power of two, or 2^-126.
inline void as_integers(double* group, int count) {
  int exponent = -113;
  for (int i = 0; i < count; ++i)
    if (group[i] != 0) exponent = std::max(exponent, std::ilogb(group[i]));
  for (int i = 0; i < count; ++i) group[i] = std::ldexp(std::nearbyint(std::ldexp(group[i], 13 - exponent)), exponent - 13);
}

// rounded: activations that were rounded to bf16 when they were packed.
inline void products_of(const Kernels& kernels, Format format, int k, size_t misalign, bool rounded = false) {
  const bool transposed = format == Format::transposed;
  const int rows = transposed ? 288 : 27, tokens = transposed ? 15 : 104;
  Random random(static_cast<uint64_t>(k) * 31 + misalign);
  Matrix m(format, rows, k, misalign);
  m.fill(random);
  std::vector<std::unique_ptr<Fenced<float>>> activations;
  std::vector<const float*> x;
  std::vector<double> plain(static_cast<size_t>(tokens) * k);
  for (int t = 0; t < tokens; ++t) {
    std::vector<float> values(k);
    for (float& value : values) value = random.below(8) ? random.normal() : 0;
    for (int i = 0; i < k; ++i)
      plain[static_cast<size_t>(t) * k + i] = rounded ? gptoss::round_to_bf16(values[i]) : values[i];
    if (rounded && of_integers(kernels, format))
      for (int i = 0; i < k; i += 32) as_integers(&plain[static_cast<size_t>(t) * k + i], std::min(32, k - i));
    activations.push_back(packed(kernels, values.data(), k, rounded));
    x.push_back(activations.back()->data());
  }

  // Token by token, against float64.
  std::vector<std::vector<float>> alone;
  // Additions in a row: tiles, four chains of two additions for two products, or a chain in every lane. Integers: of groups.
  const int terms = rounded ? 1 : 3;
  const double chain = rounded && of_integers(kernels, format) ? (k + 31) / 32 + 1
                       : kernels.most_tokens == gptoss::cpu::kPanelTokens ? 16 + terms * (k + 31) / 32 + 8
                       : kernels.packs_terms(rounded) && !transposed ? 4 * terms * ((k + 31) / 32) + 8
                                                              : (transposed ? k : k / kernels.lanes) + 8;
  for (int t = 0; t < tokens; ++t) {
    alone.push_back(multiply(kernels, m, 0, rows, {x[t]}, !rounded));
    for (int r = 0; r < rows; ++r) {
      double sum = 0, size = 0;
      for (int i = 0; i < k; ++i) {
        const double term = m.value(r, i) * plain[static_cast<size_t>(t) * k + i];
        sum += term;
        size += std::fabs(term);
      }
      CHECK(std::fabs(alone[t][r] - sum) <= chain * 0x1p-23 * size,
            "%s %s k %d row %d token %d: %.9g, wanted %.9g", kernels.name, name_of(format), k, r, t,
            alone[t][r], sum);
    }
  }

  // The same bits in any company: every remainder of the tiles of rows and of tokens, and blocks of tokens.
  struct Range {
    int first, count;
  };
  const std::vector<Range> row_ranges =
      transposed ? std::vector<Range>{{0, 32}, {32, 64}, {64, 128}, {0, 160}, {0, 288}}
                 : std::vector<Range>{{0, 1}, {1, 2}, {0, 3},  {2, 4},  {0, 5}, {1, 7},
                                      {3, 8}, {0, 9}, {0, 11}, {4, 16}, {0, 27}};
  const std::vector<Range> token_ranges =
      transposed ? std::vector<Range>{{3, 1}, {0, 2}, {1, 5}, {2, 6}, {0, 7}, {1, 13}, {0, 15}}
                 : std::vector<Range>{{3, 1},  {1, 2},  {0, 3},  {2, 4},  {0, 5},  {1, 6},  {2, 7},  {1, 8},  {0, 12},
                                      {0, 17}, {3, 24}, {0, 25}, {0, 48}, {1, 49}, {4, 53}, {0, 55}, {2, 97}};
  for (const Range& rs : row_ranges)
    for (const Range& ts : token_ranges) {
      const auto y =
          multiply(kernels, m, rs.first, rs.count, {x.begin() + ts.first, x.begin() + ts.first + ts.count}, !rounded);
      bool same = true;
      for (int t = 0; t < ts.count; ++t)
        for (int r = 0; r < rs.count; ++r)
          same =
              same && same_bits(y[static_cast<size_t>(t) * rs.count + r], alone[ts.first + t][rs.first + r]);
      CHECK(same, "%s %s k %d: %d rows and %d tokens together give other bits than one by one", kernels.name,
            name_of(format), k, rs.count, ts.count);
    }
}

// More tokens than kernels keep sums of at a time.
inline void very_many_tokens(const Kernels& kernels, Format format, bool rounded) {
  const int rows = 34, k = 576, tokens = 1100;
  Random random(9);
  Matrix m(format, rows, k, 8);
  m.fill(random);
  std::vector<std::unique_ptr<Fenced<float>>> activations;
  std::vector<const float*> x;
  for (int t = 0; t < tokens; ++t) {
    std::vector<float> values(k);
    for (float& value : values) value = random.normal();
    activations.push_back(packed(kernels, values.data(), k, rounded));
    x.push_back(activations.back()->data());
  }
  for (int count : {512, 517, 1030, tokens}) {
    const auto y = multiply(kernels, m, 0, rows, {x.begin(), x.begin() + count}, !rounded);
    for (int t = 0; t < count; t += t < 500 ? 101 : 13) {
      const auto alone = multiply(kernels, m, 0, rows, {x[t]}, !rounded);
      bool same = true;
      for (int r = 0; r < rows; ++r) same = same && same_bits(y[static_cast<size_t>(t) * rows + r], alone[r]);
      CHECK(same, "%s %s: token %d of %d has other bits than alone", kernels.name, name_of(format), t, count);
    }
  }
}

// With one activation of 1 among zeros, y is a weight: exact, so every code under every scale can be checked.
inline void every_mxfp4_value(const Kernels& kernels, bool rounded) {
  Matrix m(Format::mxfp4, 255, 32, 0);
  for (int scale = 0; scale < 255; ++scale) {
    m.scales[scale] = static_cast<uint8_t>(scale);
    for (int i = 0; i < 32; ++i) {
      int code = (i + scale) % 16;
      // 4 and 6 times 2^126, and 2 and more times 2^127, are no float32.
      while (gptoss::kE2m1[code & 7] * std::ldexp(1.0, scale - 127) >= 0x1p128) --code;
      m.set_code(scale, i, code);
    }
  }
  std::vector<std::unique_ptr<Fenced<float>>> activations;
  std::vector<const float*> x;
  for (int i = 0; i < 32; ++i) {
    float one[32] = {};
    one[i] = 1;
    activations.push_back(packed(kernels, one, 32, rounded));
    x.push_back(activations.back()->data());
  }
  for (int company : {1, 4, 32})  // one token; one tile of tokens; rows unpacked once for several tiles
    for (int t = 0; t < 32; t += company) {
      const auto y = multiply(kernels, m, 0, 255, {x.begin() + t, x.begin() + t + company}, !rounded);
      for (int i = 0; i < company; ++i)
        for (int scale = 0; scale < 255; ++scale) {
          const float got = y[static_cast<size_t>(i) * 255 + scale];
          const double want = used(kernels, rounded, m.value(scale, t + i));
          CHECK(got == want, "%s scale %d element %d: %.9g, wanted %.9g", kernels.name, scale, t + i, got, want);
        }
    }
}

inline void every_bf16_value(const Kernels& kernels, Format format, bool rounded) {
  const int rows = 65536 / 32;
  Matrix m(format, rows, 32, 2);
  for (int bits = 0; bits < 65536; ++bits) {
    const bool finite = (bits & 0x7f80) != 0x7f80;
    m.set_bf16(bits / 32, bits % 32, static_cast<uint16_t>(finite ? bits : 0));
  }
  for (int i = 0; i < 32; ++i) {
    float one[32] = {};
    one[i] = 1;
    const auto x = packed(kernels, one, 32, rounded);
    const auto y = multiply(kernels, m, 0, rows, std::vector<const float*>(i % 2 ? 7 : 1, x->data()), !rounded);
    for (size_t j = 0; j < y.size(); ++j) {
      const int r = static_cast<int>(j % rows);
      const bool plain = format == Format::transposed && std::string(kernels.name) == "neon_bf16";  // products of float32
      const double want = plain ? m.value(r, i) : used(kernels, rounded, m.value(r, i));
      CHECK(y[j] == want, "%s %s: %.9g, wanted %.9g", kernels.name, name_of(format), y[j], want);
    }
  }
}

// Weights in 8 bits give the bits that bf16 weights of the same values give, whatever the scale; not as integers.
inline void int8_is_bf16(const Kernels& kernels, int k, bool rounded) {
  if (rounded && kernels.integers) return;
  const int rows = 19, tokens = 13;
  Random random(static_cast<uint64_t>(k));
  Matrix m(Format::int8, rows, k, 1), same(Format::bf16, rows, k, 2);
  m.fill(random);
  for (size_t g = 0; g < m.scales.size(); ++g) m.scales[g] = static_cast<uint8_t>(random.below(8) ? 100 + random.below(40) : 0);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < k; ++i) same.set_bf16(r, i, gptoss::float_to_bf16(static_cast<float>(m.value(r, i))));
  std::vector<std::unique_ptr<Fenced<float>>> activations;
  std::vector<const float*> x;
  for (int t = 0; t < tokens; ++t) {
    std::vector<float> values(k);
    for (float& value : values) value = random.normal();
    activations.push_back(packed(kernels, values.data(), k, rounded));
    x.push_back(activations.back()->data());
  }
  for (int count : {1, 2, 6, tokens}) {
    const std::vector<const float*> some(x.begin(), x.begin() + count);
    const auto got = multiply(kernels, m, 0, rows, some, !rounded), want = multiply(kernels, same, 0, rows, some, !rounded);
    bool equal = true;
    for (size_t j = 0; j < got.size(); ++j) equal = equal && same_bits(got[j], want[j]);
    CHECK(equal, "%s k %d, %d tokens: 8-bit weights give other bits than the bf16 that they are", kernels.name, k, count);
  }
}

// quantize_int8: the smallest power of two that holds the group's largest weight, no weight further than half a step,
// every result a bf16, and what has 7 bits already comes back unchanged.
inline void quantised_to_int8(int k) {
  const int rows = 37;
  Random random(static_cast<uint64_t>(k) + 7);
  std::vector<uint16_t> weight(static_cast<size_t>(rows) * k), again(weight.size());
  const int special[] = {0, 1, 0x7f, 0x80, 0x42fe, 0x42ff, 0x4300, 0x7f7e, 0xff7e, 0x8000};  // 127, 127.5, 128, the largest
  for (size_t i = 0; i < weight.size(); ++i) {
    const size_t row = i / k;
    weight[i] = gptoss::float_to_bf16(std::ldexp(random.normal(), static_cast<int>(row) * 6 - 110));
    if (row >= 30) weight[i] = static_cast<uint16_t>(random.below(6) ? weight[i] & 0x8000 : special[random.below(10)]);
  }
  const auto quantised = [&](const std::vector<uint16_t>& from, Matrix& m) {
    return gptoss::quantize_int8(from.data(), rows, k, reinterpret_cast<int8_t*>(m.weight.data()), m.scales.data());
  };
  Matrix m(Format::int8, rows, k, 0), twice(Format::int8, rows, k, 0);
  const auto error = quantised(weight, m);
  CHECK(error.finite, "finite weights were refused");
  double worst = 0;
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < k; ++i) {
      const size_t at = static_cast<size_t>(r) * k + i;
      const double w = gptoss::bf16_to_float(weight[at]), q = m.value(r, i);
      const int scale = m.scales[r * m.scale_bytes + i / 32];
      CHECK(std::fabs(q - w) <= std::ldexp(0.5, scale - 127), "row %d place %d: %g became %g", r, i, w, q);
      CHECK(std::fabs(q) <= std::ldexp(127, scale - 127), "row %d place %d: %g became %g", r, i, w, q);
      double largest = 0;
      for (int j = i / 32 * 32; j < k && j < i / 32 * 32 + 32; ++j)
        largest = std::max<double>(largest, std::fabs(gptoss::bf16_to_float(weight[static_cast<size_t>(r) * k + j])));
      CHECK(scale == 0 || largest > std::ldexp(127, scale - 128), "row %d place %d: scale %d of at most %g", r, i, scale, largest);
      again[at] = gptoss::float_to_bf16(static_cast<float>(q));
      CHECK(gptoss::bf16_to_float(again[at]) == q, "row %d place %d: %g is no bf16", r, i, q);
      worst = std::max(worst, std::fabs(q - w));
    }
  for (int r = 0; r < rows; ++r)
    for (int i = k; i < static_cast<int>(m.row_bytes); ++i) CHECK(m.weight[r * m.row_bytes + packed_place(i)] == 0, "padding");
  CHECK(error.largest == worst, "the largest error is %g, not %g", worst, error.largest);
  quantised(again, twice);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < k; ++i) CHECK(twice.value(r, i) == m.value(r, i), "row %d place %d: not unchanged", r, i);
  for (uint16_t bad : {0x7f7f, 0xff7f, 0x7f80, 0xff80, 0x7fc0}) {
    auto spoiled = weight;
    spoiled[spoiled.size() - 1] = bad;
    CHECK(!quantised(spoiled, twice).finite, "%x was taken for a number", bad);
  }
}

// Every instruction set that has them makes the same products of integers, whatever the scales and the activations; a scale
// of 255 spoils its row and no other. Rows and scales end at their fences: nothing is read beyond the last ones.
inline void integers_agree(const std::vector<const Kernels*>& sets, Format format) {
  const int tokens = 21, spoiled = 21;
  for (const auto& [rows, k] : {std::pair{32, 32}, {32, 224}, {32, 256}, {32, 288}, {41, 480}}) {
    Random random(static_cast<uint64_t>(k));
    Matrix m(format, rows, k, 0);
    for (size_t i = 0; i < m.weight.size(); ++i) m.weight[i] = static_cast<uint8_t>(random.below(256));
    for (size_t i = 0; i < m.scales.size(); ++i) m.scales[i] = static_cast<uint8_t>(random.below(8) ? 100 + random.below(40) : 0);
    m.scales[spoiled * m.scale_bytes + random.below(k / 32)] = 255;
    std::vector<std::vector<float>> values(tokens, std::vector<float>(k));
    for (auto& token : values)
      for (float& value : token) value = std::ldexp(random.normal(), random.below(24) - 12);
    for (int count : {1, 8, 9, tokens}) {
      std::vector<float> first;
      for (const Kernels* kernels : sets) {
        std::vector<std::unique_ptr<Fenced<float>>> activations;
        std::vector<const float*> x;
        for (int t = 0; t < count; ++t) {
          activations.push_back(packed(*kernels, values[t].data(), k, true));
          x.push_back(activations.back()->data());
        }
        const auto y = multiply(*kernels, m, 0, rows, x, false);
        if (first.empty()) first = y;
        for (size_t j = 0; j < y.size(); ++j) {
          const bool bad = j % rows == spoiled;
          CHECK(bad ? !std::isfinite(y[j]) : std::isfinite(y[j]) && same_bits(y[j], first[j]),
                "%s %s k %d, %d tokens, row %zu: %.9g, but %s has %.9g", kernels->name, name_of(format), k, count, j % rows,
                y[j], sets[0]->name, first[j]);
        }
      }
    }
  }
}

// An activation of every size meets a weight of 1.
inline void every_activation_size(const Kernels& kernels, Format format) {
  Matrix m(format, 1, 32, 0);
  std::fill_n(m.weight.data(), m.weight.size(), 0);
  m.scales[0] = 127;
  if (format == Format::mxfp4)
    m.set_code(0, 9, 2);
  else
    m.int8_at(0, 9) = 1;
  std::vector<std::unique_ptr<Fenced<float>>> activations;
  std::vector<const float*> x;
  std::vector<double> want;
  for (int exponent = -133; exponent < 128; ++exponent) {
    float values[32] = {};
    values[9] = std::ldexp(exponent < -126 ? 1.0f : 0x1.aap0f, exponent);  // bf16, subnormal ones too
    double group[32] = {};
    group[9] = used(kernels, true, values[9]);
    if (of_integers(kernels, format)) as_integers(group, 32);
    want.push_back(group[9]);
    activations.push_back(packed(kernels, values, 32, true));
    x.push_back(activations.back()->data());
  }
  const auto together = multiply(kernels, m, 0, 1, x, false);
  for (size_t t = 0; t < x.size(); ++t) {
    const float alone = multiply(kernels, m, 0, 1, {x[t]}, false)[0];
    CHECK(alone == want[t] && together[t] == want[t], "%s %s: alone %.9g, together %.9g, wanted %.9g", kernels.name, name_of(format),
          alone, together[t], want[t]);
  }
}

// Products of integers where they are largest, and of what is no integer: zeros, numbers that are all tiny, infinities.
inline void integer_extremes(const Kernels& kernels, Format format) {
  const int rows = 18, k = 96, tokens = 9;
  Matrix m(format, rows, k, 1);
  std::fill_n(m.scales.data(), m.scales.size(), 127);
  for (int r = 0; r < rows; ++r)
    for (int i = 0; i < k; ++i) {
      const bool negative = r % 3 == 1 || (r % 3 == 2 && i % 2);
      if (format == Format::mxfp4)
        m.set_code(r, i, negative ? 15 : 7);
      else
        m.int8_at(r, i) = static_cast<uint8_t>(negative ? -127 : 127);
    }
  const float tiny = 0x1.fep-120f;
  const auto value = [&](int t, int i) -> float {
    switch (t) {
      case 0: return 0x1.fep0f;  // the largest bf16 of its power of two
      case 1: return -0x1.fcp0f;  // the low byte is -128
      case 2: return i % 2 ? -0x1.fep100f : 0x1.fep100f;
      case 3: return 0;
      case 4: return i % 3 ? tiny : -tiny;
      case 5: return i == 40 ? INFINITY : 1;
      case 6: return i == 70 ? -NAN : 1;
      case 7: return i % 32 ? -0x1.fep-7f : 0x1.fep0f;  // less than 1/64 of the largest, to an odd number of steps
      default: return i < 32 ? 0x1p-100f : i < 64 ? 1 : 0x1p10f;
    }
  };
  std::vector<std::unique_ptr<Fenced<float>>> activations;
  std::vector<const float*> x;
  for (int t = 0; t < tokens; ++t) {
    std::vector<float> values(k);
    for (int i = 0; i < k; ++i) values[i] = value(t, i);
    activations.push_back(packed(kernels, values.data(), k, true));
    x.push_back(activations.back()->data());
  }
  for (int again = 0; again < 2; ++again) x.insert(x.end(), x.begin(), x.begin() + tokens);
  for (int count : {1, 4, 9, 3 * tokens})
    for (int first = 0; first < tokens && first + count <= 3 * tokens; ++first) {
      const auto y = multiply(kernels, m, 0, rows, {x.begin() + first, x.begin() + first + count}, false);
      for (int t = 0; t < count; ++t)
        for (int r = 0; r < rows; ++r) {
          const int token = (first + t) % tokens;
          double sum = 0, size = 0;
          for (int g = 0; g < k; g += 32) {
            double group[32];
            for (int i = 0; i < 32; ++i) group[i] = value(token, g + i);
            if (kernels.integers && std::isfinite(group[8]) && std::isfinite(group[6])) as_integers(group, 32);
            for (int i = 0; i < 32; ++i) {
              sum += m.value(r, g + i) * group[i];
              size += std::fabs(m.value(r, g + i) * group[i]);
            }
          }
          const float got = y[static_cast<size_t>(t) * rows + r];
          const bool spoiled = token == 5 || token == 6;
          CHECK(spoiled ? !std::isfinite(got) : std::fabs(got - sum) <= (kernels.integers ? 4 : k) * 0x1p-23 * size,
                "%s %s row %d token %d beside %d: %.9g, wanted %.9g", kernels.name, name_of(format), r, token, count - 1, got,
                sum);
        }
    }
}

// A weight that is no number spoils its row and nothing else.
inline void one_bad_weight(const Kernels& kernels, Format format) {
  Random random(5);
  Matrix m(format, 64, 64, 8);
  m.fill(random);
  std::vector<float> values(64);
  for (float& value : values) value = random.normal();
  const auto x = packed(kernels, values.data(), 64);
  for (int tokens : {1, 6, 20}) {
    const std::vector<const float*> xs(tokens, x->data());
    const auto before = multiply(kernels, m, 0, 64, xs);
    m.set_bf16(37, 5, 0x7fc0);
    const auto after = multiply(kernels, m, 0, 64, xs);
    m.set_bf16(37, 5, 0x3f80);
    for (size_t j = 0; j < after.size(); ++j) {
      if (j % 64 == 37)
        CHECK(std::isnan(after[j]), "%s %s: %g, wanted NaN", kernels.name, name_of(format), after[j]);
      else
        CHECK(same_bits(before[j], after[j]), "%s %s: a NaN in row 37 changed row %zu", kernels.name,
              name_of(format), j % 64);
    }
  }
}

inline void product_cases(const Kernels& kernels) {
  for (Format format : {Format::bf16, Format::mxfp4, Format::int8, Format::transposed})
    for (int k : {32, 64, 96, 352})
      products_of(kernels, format, k, k == 64 ? 0 : 8);  // released files: 8 modulo 16
  for (Format format : {Format::bf16, Format::mxfp4, Format::int8, Format::transposed})
    products_of(kernels, format, 352, 8, true);
  for (size_t misalign : {2, 6, 10, 14}) {
    products_of(kernels, Format::bf16, 96, misalign);
    products_of(kernels, Format::transposed, 32, misalign);
    products_of(kernels, Format::mxfp4, 64, misalign / 2);  // bytes: odd addresses too
  }
  for (int k : {2, 16, 24, 31, 33, 40, 80, 100})  // ragged
    for (Format format : {Format::bf16, Format::int8}) products_of(kernels, format, k, 2);
  for (int k : {2, 31, 100})
    for (Format format : {Format::bf16, Format::int8}) products_of(kernels, format, k, 2, true);
  for (bool rounded : {false, true}) {
    products_of(kernels, Format::transposed, 33, 2, rounded);
    for (int k : {32, 352, 100}) int8_is_bf16(kernels, k, rounded);
    every_mxfp4_value(kernels, rounded);
    every_bf16_value(kernels, Format::bf16, rounded);
    every_bf16_value(kernels, Format::transposed, rounded);
  }
  for (Format format : {Format::mxfp4, Format::int8}) {
    integer_extremes(kernels, format);
    every_activation_size(kernels, format);
    very_many_tokens(kernels, format, true);
  }
  one_bad_weight(kernels, Format::bf16);
  one_bad_weight(kernels, Format::transposed);
}

}  // namespace test
