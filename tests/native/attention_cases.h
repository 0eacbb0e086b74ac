// attn_page, attn_merge and attn_finish: four pages in two splits, as the CPU device calls them, against
// float64; and a query's bits, whatever other queries its call has.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "check.h"
#include "cpu/kernels.h"
#include "numeric.h"

namespace test {

using gptoss::cpu::Kernels;

constexpr int kSlots = 64, kPages = 4, kPagesOfSplit = 2;

// Which slots a query sees: those of consecutive tokens, `group` query heads each.
struct Geometry {
  int position, window, group;
};
constexpr int kEverything = 1 << 20;

struct AttentionCase {
  int head_dim, queries;
  bool bf16, round;
  Geometry geometry;
  float scale;
  std::vector<float> q, keys, values, sinks;  // (queries, dim), (pages, 64, dim), (pages, 64, dim), (queries)

  AttentionCase(int dim, int count, bool bf16_, bool round_, Geometry where, uint64_t seed)
      : head_dim(dim),
        queries(count),
        bf16(bf16_),
        round(round_),
        geometry(where),
        scale(2 / std::sqrt(static_cast<float>(dim))) {
    Random random(seed);
    const auto stored = [&](float x) { return bf16 ? gptoss::round_to_bf16(x) : x; };
    // For products of bf16 queries are rounded where the cache is and weights are.
    for (int i = 0; i < queries * dim; ++i) q.push_back(bf16 && round ? gptoss::round_to_bf16(random.normal()) : random.normal());
    for (int i = 0; i < kPages * kSlots * dim; ++i) keys.push_back(stored(random.normal()));
    for (int i = 0; i < kPages * kSlots * dim; ++i) values.push_back(stored(random.normal()));
    for (int i = 0; i < queries; ++i) sinks.push_back(2 * random.normal());
  }
  // The slots [first, last) of a page; 0, 0 before the page's first token and 64, 64 behind the window.
  int first(int query, int page) const {
    return std::clamp(position(query) - geometry.window + 1 - page * kSlots, 0, kSlots);
  }
  int last(int query, int page) const { return std::clamp(position(query) + 1 - page * kSlots, 0, kSlots); }
  bool sees(int query, int page, int slot) const {
    return slot >= first(query, page) && slot < last(query, page);
  }

  int from(int query) const { return position(query) - geometry.window + 1; }
  int to(int query) const { return position(query) + 1; }

 private:
  int position(int query) const { return geometry.position + query / geometry.group; }
};

struct Attended {
  float m, l, lse;
  std::vector<float> out;  // (dim)
};

// A page as the cache holds it: keys (dim, 64), values (64, padded dim). Slots that none of `of` sees, and
// the padding, hold garbage: not-a-number.
struct Page {
  Fenced<uint8_t> keys, values;
  int padded;
  bool bf16;

  Page(const AttentionCase& c, int page, const std::vector<int>& of, int padded_dim)
      : keys(static_cast<size_t>(c.head_dim) * kSlots * (c.bf16 ? 2 : 4)),
        values(static_cast<size_t>(kSlots) * padded_dim * (c.bf16 ? 2 : 4)),
        padded(padded_dim),
        bf16(c.bf16) {
    for (int slot = 0; slot < kSlots; ++slot) {
      const bool seen =
          std::any_of(of.begin(), of.end(), [&](int query) { return c.sees(query, page, slot); });
      for (int d = 0; d < padded; ++d) {
        const bool real = seen && d < c.head_dim;
        const size_t at = (static_cast<size_t>(page) * kSlots + slot) * c.head_dim + d;
        if (d < c.head_dim) set(keys, d * kSlots + slot, real ? c.keys[at] : NAN);
        set(values, slot * padded + d, real ? c.values[at] : NAN);
      }
    }
  }
  void set(Fenced<uint8_t>& to, int i, float x) {
    const uint16_t half = gptoss::float_to_bf16(x);
    if (bf16)
      std::memcpy(to.data() + 2 * i, &half, sizeof half);
    else
      std::memcpy(to.data() + 4 * i, &x, sizeof x);
  }
};

// The same as attn_split reads it: keys (64, dim in whole 32s), values (padded dim, 64); keys' padding is 0.
struct ColumnPage {
  Fenced<uint8_t> bytes;

  ColumnPage(const AttentionCase& c, int page, const std::vector<int>& of, int padded)
      : bytes(static_cast<size_t>(kSlots) * 2 * ((c.head_dim + 31) / 32 * 32 + padded)) {
    const int key_dim = (c.head_dim + 31) / 32 * 32;
    for (int slot = 0; slot < kSlots; ++slot) {
      const bool seen =
          std::any_of(of.begin(), of.end(), [&](int query) { return c.sees(query, page, slot); });
      for (int d = 0; d < std::max(key_dim, padded); ++d) {
        const size_t at = (static_cast<size_t>(page) * kSlots + slot) * c.head_dim + d;
        const bool real = d < c.head_dim;
        if (d < key_dim) set(slot * key_dim + d, !real ? 0 : seen ? c.keys[at] : NAN);
        if (d < padded) set(kSlots * key_dim + d * kSlots + slot, !real ? 0 : seen ? c.values[at] : NAN);
      }
    }
  }
  void set(int i, float x) {
    const uint16_t half = gptoss::float_to_bf16(x);
    std::memcpy(bytes.data() + 2 * i, &half, sizeof half);
  }
};

inline std::vector<Attended> attend(const Kernels& kernels, const AttentionCase& c,
                                    const std::vector<int>& of) {
  const int n = static_cast<int>(of.size()), padded = (c.head_dim + 15) / 16 * 16;
  struct Sums {
    Output m, l, acc;
    Sums(int count, int width) : m(1, count, count), l(1, count, count), acc(count, width, width) {
      std::fill_n(m.data(), count, -std::numeric_limits<float>::infinity());
      std::fill_n(l.data(), count, 0.0f);
      std::fill_n(acc.data(), count * width, 0.0f);
    }
  };
  Fenced<float> q(static_cast<size_t>(n) * c.head_dim);
  Scratch scratch(gptoss::cpu::attn_scratch_floats(padded));
  for (int i = 0; i < n; ++i) std::copy_n(&c.q[of[i] * c.head_dim], c.head_dim, &q[i * c.head_dim]);

  Sums total(n, padded);
  const bool columns = kernels.attn_split && c.bf16 && c.round;
  Fenced<uint8_t> packed_q(gptoss::cpu::attn_columns_bytes(n, c.head_dim));
  if (columns) kernels.attn_columns(q.data(), n, c.head_dim, packed_q.data());

  for (int start = 0; start < kPages; start += kPagesOfSplit) {
    Sums split(n, padded);
    if (columns) {
      std::vector<std::unique_ptr<ColumnPage>> pages;
      std::vector<const uint8_t*> page;
      std::vector<int> first, last;
      for (int i = 0; i < kPagesOfSplit; ++i) {
        pages.push_back(std::make_unique<ColumnPage>(c, start + i, of, padded));
        page.push_back(pages.back()->bytes.data());
      }
      for (int query : of) {
        first.push_back(c.from(query) - start * kSlots);
        last.push_back(c.to(query) - start * kSlots);
      }
      kernels.attn_split({.q = packed_q.data(),
                          .queries = n,
                          .head_dim = c.head_dim,
                          .padded_dim = padded,
                          .page = page.data(),
                          .pages = kPagesOfSplit,
                          .next = nullptr,
                          .scale = c.scale,
                          .first = first.data(),
                          .last = last.data(),
                          .m = split.m.data(),
                          .l = split.l.data(),
                          .acc = split.acc.data(),
                          .scratch = scratch.data()});
    }
    for (int page = start; page < start + kPagesOfSplit && !columns; ++page) {
      const Page cache(c, page, of, padded);
      std::vector<int> first, last;
      for (int query : of) {
        first.push_back(c.first(query, page));
        last.push_back(c.last(query, page));
      }
      kernels.attn_page({.q = q.data(),
                         .queries = n,
                         .head_dim = c.head_dim,
                         .padded_dim = padded,
                         .keys = cache.keys.data(),
                         .values = cache.values.data(),
                         .bf16 = c.bf16,
                         .round_weights = c.round,
                         .scale = c.scale,
                         .first = first.data(),
                         .last = last.data(),
                         .m = split.m.data(),
                         .l = split.l.data(),
                         .acc = split.acc.data(),
                         .scratch = scratch.data()});
    }
    CHECK(split.m.intact() && split.l.intact() && split.acc.intact(), "%s attn_page: wrote elsewhere",
          kernels.name);
    for (int i = 0; i < n; ++i)
      kernels.attn_merge(total.m.data() + i, total.l.data() + i, total.acc.row(i), split.m.data()[i],
                         split.l.data()[i], split.acc.row(i), padded);
  }
  std::vector<Attended> results;
  for (int i = 0; i < n; ++i) {
    float *m = total.m.data() + i, *l = total.l.data() + i;
    kernels.attn_finish(m, l, total.acc.row(i), c.sinks[of[i]], padded);
    results.push_back({*m, *l, *m + std::log(*l), {total.acc.row(i), total.acc.row(i) + c.head_dim}});
  }
  CHECK(total.m.intact() && total.l.intact() && total.acc.intact(),
        "%s attn_merge, attn_finish: wrote elsewhere", kernels.name);
  return results;
}

struct Expected {
  double lse = 0;
  std::vector<double> out;
  double score_error = 0;  // what float32 may do to a score
};

inline Expected expected(const AttentionCase& c, int query, bool round) {
  Expected e;
  e.out.assign(c.head_dim, 0.0);
  double m = c.sinks[query], l = 1;
  for (int page = 0; page < kPages; ++page) {
    double score[kSlots], highest = -INFINITY;
    for (int slot = 0; slot < kSlots; ++slot) {
      if (!c.sees(query, page, slot)) continue;
      const float* key = &c.keys[(page * kSlots + slot) * c.head_dim];
      double sum = 0, size = 0;
      for (int d = 0; d < c.head_dim; ++d) {
        sum += static_cast<double>(c.q[query * c.head_dim + d]) * key[d];
        size += std::fabs(static_cast<double>(c.q[query * c.head_dim + d]) * key[d]);
      }
      score[slot] = sum * c.scale;
      highest = std::max(highest, score[slot]);
      e.score_error = std::max(e.score_error, 0x1p-23 * std::sqrt(c.head_dim) * size * c.scale);
    }
    if (highest == -INFINITY) continue;
    const double top = std::max(m, highest), keep = std::exp(m - top);
    l *= keep;
    for (double& x : e.out) x *= keep;
    for (int slot = 0; slot < kSlots; ++slot) {
      if (!c.sees(query, page, slot)) continue;
      const double weight = std::exp(score[slot] - highest), factor = std::exp(highest - top);
      const double used =
          round ? gptoss::round_to_bf16(static_cast<float>(weight)) : weight;  // relative to its page
      l += weight * factor;
      for (int d = 0; d < c.head_dim; ++d)
        e.out[d] += used * factor * c.values[(page * kSlots + slot) * c.head_dim + d];
    }
    m = top;
  }
  for (double& x : e.out) x /= l;
  e.lse = m + std::log(l);
  return e;
}

inline void attention_case(const Kernels& kernels, const AttentionCase& c) {
  std::vector<int> everyone(c.queries);
  for (int i = 0; i < c.queries; ++i) everyone[i] = i;
  const auto together = attend(kernels, c, everyone);
  double error = 0, effect = 0;  // of rounding the weights, which must be seen
  for (int i = 0; i < c.queries; ++i) {
    const Expected want = expected(c, i, c.round), plain = expected(c, i, false);
    CHECK(std::fabs(together[i].lse - want.lse) <= 2 * want.score_error + 0x1p-22 * (8 + std::fabs(want.lse)),
          "%s attention dim %d bf16 %d query %d: lse %.9g, wanted %.9g", kernels.name, c.head_dim, c.bf16, i,
          together[i].lse, want.lse);
    // A weight next to the middle between two bf16 may go the other way: then it is off by 2^-8 of itself.
    const double limit = 4 * (4 * want.score_error + 0x1p-18 + (c.round ? 0x1p-9 : 0));  // values reach 4
    for (int d = 0; d < c.head_dim; ++d) {
      const double got = together[i].out[d];
      CHECK(std::fabs(got - want.out[d]) <= limit,
            "%s attention dim %d bf16 %d round %d query %d: out(%d) %.9g, wanted %.9g", kernels.name,
            c.head_dim, c.bf16, c.round, i, d, got, want.out[d]);
      error += (got - want.out[d]) * (got - want.out[d]);
      effect += (plain.out[d] - want.out[d]) * (plain.out[d] - want.out[d]);
    }
  }
  CHECK(effect == 0 || error < 0.1 * effect, "%s attention dim %d: weights were not rounded to bf16",
        kernels.name, c.head_dim);

  for (int count : {1, 2, 3, 7}) {  // tiles of six, of two and of one
    for (int start = 0; start + count <= c.queries; start += count) {
      const std::vector<int> some(everyone.begin() + start, everyone.begin() + start + count);
      const auto apart = attend(kernels, c, some);
      for (int i = 0; i < count; ++i) {
        const Attended &a = apart[i], &b = together[start + i];
        CHECK(same_bits(a.m, b.m) && same_bits(a.l, b.l) &&
                  std::memcmp(a.out.data(), b.out.data(), c.head_dim * 4) == 0,
              "%s attention dim %d bf16 %d: query %d among %d has other bits than among %d", kernels.name,
              c.head_dim, c.bf16, start + i, count, c.queries);
      }
    }
  }
}

// Scores so far apart that e^x is 0, rising and falling along the pages, and a sink far above and below.
inline void far_apart(const Kernels& kernels) {
  for (float sink : {-300.0f, 0.0f, 300.0f})
    for (bool rising : {false, true}) {
      AttentionCase c(16, 8, false, false, {200, kEverything, 1}, 3);
      c.sinks.assign(8, sink);
      for (size_t i = 0; i < c.keys.size(); ++i)
        c.keys[i] *= 1 + 40.0f * (rising ? i : c.keys.size() - i) / c.keys.size();
      attention_case(kernels, c);
    }
}

inline void attention_cases(const Kernels& kernels) {
  const Geometry geometries[] = {
      {200, kEverything, 1}, {0, kEverything, 8},  // a long context; the first tokens of all
      {60, kEverything, 3},  {60, 16, 3},          // over the edge of a page
      {120, 1, 1},           {127, 128, 8},        // one key each; a window that is full just now
      {128, 128, 8},         {129, 128, 8},        // and one that begins to forget
      {190, 65, 1},          {250, 70, 4}};
  constexpr int n = sizeof geometries / sizeof geometries[0];
  for (const Geometry& geometry : geometries)
    attention_case(kernels, AttentionCase(24, 21, false, false, geometry, 1));
  int seed = 0;
  for (int head_dim : {2, 16, 18, 40, 64, 80, 128})
    for (bool bf16 : {false, true})
      for (bool round : {false, true}) {
        ++seed;
        attention_case(kernels, AttentionCase(head_dim, 21, bf16, round, geometries[seed % n], seed));
      }
  far_apart(kernels);
}

}  // namespace test
