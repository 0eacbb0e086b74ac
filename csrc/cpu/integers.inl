// Products of integers, of weights that have few bits and a power of two for each group of 32: MXFP4 and 8 bits, in
// `fast`. `exact`, and weights in bf16, stay with float32.
//
// Activations arrive rounded to bf16. A group of them becomes 15-bit integers X in units of a power of two, u = 2^-13 of
// the power of two in its largest: what is at least 1/64 of that is the very bf16, anything else is off by u / 2 at most,
// 2^-14 of the largest. A group that has something infinite or not a number spoils its token, as it would anyway; one that
// is all below 2^-112 takes u = 2^-126. Weights are 8-bit integers, or twice the values of E2M1 codes.
//
// The sum over a group is then exact in 32 bits, however it is added up: |sum| <= 32 * 127 * 2^14 < 2^31. So different
// instructions give the same bits, those of other instruction sets too:
//  - a few tokens meet a row in every lane as the rows lie in memory, four weights at a time. X = 256 h + l: the
//    instructions multiply signed bytes of activations by unsigned ones, so weights take an offset more, 12 or 128, which
//    what a group's sums start from makes good. VPMADDUBSW has sums of 16 bits, which MXFP4's fit: a pair is at most
//    2 * 24 * 128, and what 16 of h or l add up to at most 16 * 12 * 128, wherever they pass on the way. Weights of 8 bits
//    do not, and meet X itself there, by VPMADDWD. VPDPBUSD has 32 bits.
//  - many tokens meet a panel of the same rows, by VPMADDWD or VPDPWSSD.
// From there on an element is one chain over the groups in their order, each rounded once or twice.
//
// Included by ISA files after kernels.inl, in the same namespace; see there for what may be used.

#include "ints.h"

constexpr int kGroupSteps = kPackGroup / 2;            // pairs of a group
constexpr int kQuads = kPackGroup / 4;                 // registers of bytes of a group
constexpr int kIntegerRows = 2 * kLanes;               // of a panel
constexpr int kIntegerPanelFrom = 9;                   // tokens: fewer meet the rows as they lie in memory
#if defined(GPTOSS_AVX512)
constexpr int kIntegerTile = 8;                        // tokens that meet a panel at a time
#else
constexpr int kIntegerTile = 4;
#endif
static_assert(kTileColumns % kIntegerTile == 0);

// ---- weights -----------------------------------------------------------------------------------------------

// Of kLanes rows, turned[i] has the four bytes from offset + 4 i on, each row's in its lane.
static inline void turn_quarters(const Rows& rows, size_t offset, Ints (&turned)[4]) {
  const uint8_t* at = rows.weight + offset;
  asm("" : "+r"(at));  // or GCC keeps a pointer to each row, for which there are not enough registers
  Ints row[4];
  for (int r = 0; r < 4; ++r) row[r] = load_quarters(at + r * rows.row_bytes, rows.row_bytes);
  const Ints low01 = low_dwords(row[0], row[1]), low23 = low_dwords(row[2], row[3]);
  const Ints high01 = high_dwords(row[0], row[1]), high23 = high_dwords(row[2], row[3]);
  turned[0] = low_pairs(low01, low23);
  turned[1] = high_pairs(low01, low23);
  turned[2] = low_pairs(high01, high23);
  turned[3] = high_pairs(high01, high23);
}

// Fewer rows than there are lanes, in a copy: the last one stands in for what is missing.
template <class Format>
static inline Format filled_up(const Format& all, int rows, int groups, float* scratch) {
  const size_t row_bytes = (size_t)groups * Format::kGroupBytes;
  uint8_t* const weight = (uint8_t*)scratch;
  uint8_t* const scales = weight + kLanes * row_bytes;
  for (int r = 0; r < kLanes; ++r) {
    const int row = r < rows ? r : rows - 1;
    __builtin_memcpy(weight + r * row_bytes, all.weight + row * all.row_bytes, row_bytes);
    __builtin_memcpy(scales + r * groups, all.scales + row * all.scale_bytes, groups);
  }
  return {{weight, scales, row_bytes, (size_t)groups}};
}

// fetch: a row in every lane, in register i four weights as bytes, of packed places 4 i to 4 i + 3: signed, or with kOffset
// more and no sign.

struct Mxfp4Integers : Rows {
  static constexpr int kGroupBytes = kPackGroup / 2, kAheadBytes = 1024, kOffset = 12;
  static constexpr float kUnit = 0.5f;  // twice the values
  static constexpr bool kFewAsBytes = true;
  template <bool offset>
  static void fetch(const Rows& rows, int group, Ints (&w)[kQuads]) {
    const __m128i values = offset ? _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0)
                                  : _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    Ints codes[4];
    turn_quarters(rows, (size_t)group * kGroupBytes, codes);
    for (int i = 0; i < 4; ++i) {
      w[i] = look_up(values, low_nibbles(codes[i]));
      w[i + 4] = look_up(values, high_nibbles(codes[i]));
    }
  }
};

struct Int8Integers : Rows {
  static constexpr int kGroupBytes = kPackGroup, kAheadBytes = 2048, kOffset = 128;
  static constexpr float kUnit = 1.0f;
  static constexpr bool kFewAsBytes = !kWordSums;
  template <bool offset>
  static void fetch(const Rows& rows, int group, Ints (&w)[kQuads]) {
    for (int half = 0; half < 2; ++half) {
      Ints bytes[4];
      turn_quarters(rows, (size_t)group * kGroupBytes + half * 16, bytes);
      for (int i = 0; i < 4; ++i) w[half * 4 + i] = offset ? flip_signs(bytes[i]) : bytes[i];
    }
  }
};

// The scales of the rows: those of groups g to g + 7, or of the last eight, or of as many as there are.
struct Scales {
  int base;
  alignas(16) uint8_t byte[8][kLanes];  // of each group, of each row

  Scales(const Rows& rows, int g, int groups) : base(g + 8 <= groups ? g : groups < 8 ? 0 : groups - 8) {
    uint8_t few[8][8] = {};
    for (int first = 0; first < kLanes; first += 8) {
      const uint8_t* const row = rows.scales + first * rows.scale_bytes;
      for (int r = 0; groups < 8 && r < 8; ++r)
        for (int i = 0; i < groups; ++i) few[r][i] = row[r * rows.scale_bytes + i];
      groups < 8 ? turn(few[0], 8, first) : turn(row + base, rows.scale_bytes, first);
    }
  }
  // 2^(scale - 127); scale 0 is a subnormal, and 255 spoils the row.
  V of(int g) const {
    return floats_as(larger(exponents(unsigned_bytes(byte[g - base])), broadcast_ints(&kSubnormal)));
  }

 private:
  static constexpr int kSubnormal = 0x00400000;
  void turn(const uint8_t* p, size_t stride, int first) {
    const auto eight = [&](int r) { return _mm_loadl_epi64((const __m128i*)(p + r * stride)); };
    __m128i pair[4];  // rows i and i + 4: the bytes of a group side by side
    for (int i = 0; i < 4; ++i) pair[i] = _mm_unpacklo_epi8(eight(i), eight(i + 4));
    for (int half = 0; half < 2; ++half) {
      const auto unpack = [half](__m128i a, __m128i b) { return half ? _mm_unpackhi_epi8(a, b) : _mm_unpacklo_epi8(a, b); };
      const __m128i even = unpack(pair[0], pair[2]), odd = unpack(pair[1], pair[3]);  // rows 0 2 4 6, and 1 3 5 7
      const __m128i groups[2] = {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)};
      for (int i = 0; i < 2; ++i) {
        _mm_storel_epi64((__m128i*)(byte[4 * half + 2 * i] + first), groups[i]);
        _mm_storeh_pd((double*)(byte[4 * half + 2 * i + 1] + first), _mm_castsi128_pd(groups[i]));
      }
    }
  }
};

// ---- activations -------------------------------------------------------------------------------------------
// A few tokens one by one: for each group X in the order of packed activations, or h and then l; for each group its unit;
// and for each group what its sums of bytes start from. Many, kTileColumns of them side by side: for each group pairs of X,
// those at packed places 0 and 2 (mod 4), then those at 1 and 3, as even_words and odd_words have the weights; then for each
// group the units.

struct FewTokens {
  const uint8_t* data;
  size_t stride;
  int groups;
  FewTokens(const void* panel, int count)
      : data((const uint8_t*)panel), stride((size_t)count * kPackGroup * sizeof(float)), groups(count) {}
  const uint8_t* group(int token, int g) const { return data + token * stride + (size_t)g * 64; }
  const float* units(int token) const { return (const float*)group(token, groups); }
  const int* starts(int token) const { return (const int*)(units(token) + groups); }  // (groups, 2): of h, of l
};
static_assert(64 + sizeof(float) + 2 * sizeof(int) <= kPackGroup * sizeof(float));

struct ManyTokens {
  static constexpr size_t kGroup = (size_t)kGroupSteps * kTileColumns;  // pairs of a group
  const int* data;                                                      // (blocks, groups, kGroupSteps, kTileColumns)
  size_t block;
  int groups;
  ManyTokens(const void* panel, int count)
      : data((const int*)panel), block((size_t)count * kPackGroup * kTileColumns), groups(count) {}
  const int* pairs(int token) const { return data + token / kTileColumns * block + token % kTileColumns; }
  const float* units(int token) const { return (const float*)(pairs(token) + groups * kGroup); }
};
static_assert(ManyTokens::kGroup + kTileColumns <= kPackGroup * kTileColumns);

// 32 packed activations as integers, in their order, and the unit.
static inline float integer_group(const float* x, HalfWords (&words)[2]) {
  __m256 part[4];
  __m256i size = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) {
    part[i] = _mm256_loadu_ps(x + i * 8);
    size = _mm256_max_epi32(size, _mm256_and_si256(_mm256_castps_si256(part[i]), _mm256_set1_epi32(0x7fffffff)));
  }
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(size), _mm256_extracti128_si256(size, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b01001110));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b10110001));
  int exponent = _mm_cvtsi128_si32(four) >> 23;
  const bool finite = exponent < 255;
  exponent = exponent < 14 ? 14 : exponent;
  const __m256 units = _mm256_set1_ps(finite ? __builtin_bit_cast(float, (267 - exponent) << 23) : 0.0f);  // 1 / u
  __m256i whole[4];
  for (int i = 0; i < 4; ++i)  // what is no number becomes whatever it becomes: its unit is none either
    whole[i] = _mm256_cvtps_epi32(_mm256_mul_ps(part[i], units));
  for (int i = 0; i < 2; ++i)
    words[i] = _mm256_permute4x64_epi64(_mm256_packs_epi32(whole[2 * i], whole[2 * i + 1]), 0b11011000);
  return finite ? __builtin_bit_cast(float, (exponent - 13) << 23) : __builtin_nanf("");
}

// What sums of 32 bytes times weights start from, in a lane: -offset times the bytes that it meets.
static inline int byte_start(HalfWords bytes, int offset) {
  const auto fold = [](__m256i x, auto add) {
    __m128i sum = add(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    sum = add(sum, _mm_shuffle_epi32(sum, 0b01001110));
    return add(sum, _mm_shuffle_epi32(sum, 0b10110001));
  };
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
  if (kWordSums) {  // those at places 0 and 1, and those at 2 and 3, of every four
    const __m128i sums = fold(pairs, [](__m128i a, __m128i b) { return _mm_add_epi16(a, b); });
    return _mm_cvtsi128_si32(_mm_mullo_epi16(sums, _mm_set1_epi16((int16_t)-offset)));
  }
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  return _mm_cvtsi128_si32(fold(fours, [](__m128i a, __m128i b) { return _mm_add_epi32(a, b); })) * -offset;
}

template <class Format>
static inline void few_token(const float* x, int groups, uint8_t* to) {
  float* const units = (float*)(to + (size_t)groups * 64);
  int* const starts = (int*)(units + groups);
  const auto l_of = [](HalfWords a) { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); };
  const auto h_of = [&](HalfWords a) { return _mm256_srai_epi16(_mm256_sub_epi16(a, l_of(a)), 8); };
  const auto bytes = [](HalfWords a, HalfWords b) { return _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0b11011000); };
  for (int g = 0; g < groups; ++g, to += 64) {
    HalfWords words[2];
    units[g] = integer_group(x + g * kPackGroup, words) * Format::kUnit;
    if (!Format::kFewAsBytes) {
      for (int i = 0; i < 2; ++i) _mm256_storeu_si256((__m256i*)(to + 32 * i), words[i]);
      continue;
    }
    const HalfWords h = bytes(h_of(words[0]), h_of(words[1])), l = bytes(l_of(words[0]), l_of(words[1]));
    _mm256_storeu_si256((__m256i*)to, h);
    _mm256_storeu_si256((__m256i*)(to + 32), l);
    starts[2 * g] = byte_start(h, Format::kOffset);
    starts[2 * g + 1] = byte_start(l, Format::kOffset);
  }
}

// A token among many; none, and all is 0.
template <class Format>
static inline void token_column(const float* x, int groups, int* to) {
  int* const units = to + groups * ManyTokens::kGroup;
  for (int g = 0; g < groups; ++g) {
    HalfWords words[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    const float unit = x ? integer_group(x + g * kPackGroup, words) * Format::kUnit : 0;
    __builtin_memcpy(units + g * kTileColumns, &unit, sizeof unit);
    int16_t in_order[kPackGroup];
    for (int i = 0; i < 2; ++i) _mm256_storeu_si256((__m256i*)(in_order + 16 * i), words[i]);
    for (int step = 0; step < kGroupSteps; ++step, to += kTileColumns) {
      const int16_t* const first = in_order + step % kQuads * 4 + step / kQuads;
      const int16_t pair[2] = {first[0], first[2]};
      __builtin_memcpy(to, pair, sizeof pair);
    }
  }
}

template <class Format>
static inline void integers_for(const float* const* x, int tokens, int of, int k, void* to) {
  const int groups = (int)round_up(k, kPackGroup) / kPackGroup;
  if (of < kIntegerPanelFrom)
    for (int t = 0; t < tokens; ++t)
      few_token<Format>(x[t], groups, (uint8_t*)to + (size_t)t * groups * kPackGroup * sizeof(float));
  else
    for (int t = 0; t < (int)round_up(tokens, kIntegerTile); ++t)
      token_column<Format>(t < tokens ? x[t] : nullptr, groups, (int*)to + t);
}
static void integers(const float* const* x, int tokens, int of, int k, bool mxfp4, void* to) {
  mxfp4 ? integers_for<Mxfp4Integers>(x, tokens, of, k, to) : integers_for<Int8Integers>(x, tokens, of, k, to);
}

// acc + sums * (unit of the activations) * (scales of the rows)
static inline V add_group(V acc, Ints sums, float unit, V row_scales) {
  return fma(mul(floats_of(sums), set1(unit)), row_scales, acc);
}

// ---- few tokens --------------------------------------------------------------------------------------------

// A group of the rows in the lanes, and what they and the activations of a token add up to.
template <class Format, bool as_bytes>
struct LaneGroup {
  Ints w[kQuads];
  LaneGroup(const Rows& rows, int g) { Format::template fetch<true>(rows, g, w); }
  Ints dot(const FewTokens& x, int token, int g) const {
    const uint8_t* const bytes = x.group(token, g);
    const int* const start = x.starts(token) + 2 * g;
    // Two chains of each: of one the latency would be what counts.
    Ints h[2] = {broadcast_ints(start), no_ints()}, l[2] = {broadcast_ints(start + 1), no_ints()};
#pragma GCC unroll 8
    for (int i = 0; i < kQuads; ++i) {
      h[i % 2] = add_bytes(h[i % 2], w[i], broadcast_ints(bytes + 4 * i));
      l[i % 2] = add_bytes(l[i % 2], w[i], broadcast_ints(bytes + 32 + 4 * i));
    }
    return join(add_sums(h[0], h[1]), add_sums(l[0], l[1]));
  }
};

#if !defined(GPTOSS_VNNI)
// Of eight registers the sums of their lanes.
static inline Ints sums_of_eight(const Ints (&v)[kLanes]) {
  const auto two = [](Ints a, Ints b) { return _mm256_add_epi32(low_dwords(a, b), high_dwords(a, b)); };
  const auto four = [](Ints a, Ints b) { return _mm256_add_epi32(low_pairs(a, b), high_pairs(a, b)); };
  const Ints low = four(two(v[0], v[1]), two(v[2], v[3])), high = four(two(v[4], v[5]), two(v[6], v[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

template <class Format>
struct LaneGroup<Format, false> {  // 16 registers of words: fetched again for every token
  const Rows& rows;
  LaneGroup(const Rows& all, int) : rows(all) {}
  Ints dot(const FewTokens& x, int token, int g) const {
    const Ints x0 = load_ints(x.group(token, g)), x1 = load_ints(x.group(token, g) + 32);
    Ints sums[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      const __m128i* const w = (const __m128i*)(rows.weight + r * rows.row_bytes + (size_t)g * Format::kGroupBytes);
      sums[r] = _mm256_add_epi32(_mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(w)), x0),
                                 _mm256_madd_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(w + 1)), x1));
    }
    return sums_of_eight(sums);
  }
};
#endif

// kLanes rows meet T tokens; y[t * y_stride + r * y_rows] for `count` of them.
template <int T, class Format>
__attribute__((noinline)) static void integer_rows(const Format rows, int count, const FewTokens& x, float* y, size_t y_stride,
                                                   size_t y_rows, const uint8_t* later) {
  V acc[T];
  for (int t = 0; t < T; ++t) acc[t] = zero();
  for (int first = 0; first < x.groups; first += 8) {
    const Scales scales(rows, first, x.groups);
    const int last = first + 8 < x.groups ? first + 8 : x.groups;
    for (int g = first; g < last; ++g) {
      if (g % (64 / Format::kGroupBytes) == 0) ask<kLanes>(later + (size_t)g * Format::kGroupBytes, rows.row_bytes);
      const V row_scales = scales.of(g);
      const LaneGroup<Format, Format::kFewAsBytes> group(rows, g);
      for (int t = 0; t < T; ++t) acc[t] = add_group(acc[t], group.dot(x, t, g), x.units(t)[g], row_scales);
    }
  }
  for (int t = 0; t < T; ++t) {
    float lanes[kLanes];
    store(lanes, acc[t]);
    for (int r = 0; r < count; ++r) y[t * y_stride + r * y_rows] = lanes[r];
  }
}

// As many rows as there are lanes out of as many strips, as in dot_strips, and those that are left over.
template <int T, class Format>
static inline void integer_strips(const Format& all, const FewTokens& x, const DotArgs& a) {
  const Strips strips(a, kLanes);
  for (int i = 0; i < strips.rows; ++i) {
    strips.ask_scales(i);
    integer_rows<T>(every(all, i, strips.rows), kLanes, x, a.y + i, a.y_stride, strips.rows, strips.later<Format>(i));
  }
  const int done = strips.rows * kLanes;
  if (done == a.rows) return;
  const Format rest = filled_up(advance(all, done), a.rows - done, x.groups, a.scratch);
  integer_rows<T>(rest, a.rows - done, x, a.y + done, a.y_stride, 1, rest.weight);
}

// ---- many tokens -------------------------------------------------------------------------------------------
// A panel: of eight groups two registers of rows, a pair of each in every step, and their scales. So it stays in L1 while all
// tokens stream past; what they add up to waits for the next one.

constexpr int kPanelGroups = 8;
constexpr int kWaitingTokens = kPanelLevels * kMostPanelRows * kPanelTokens / kIntegerRows;
static_assert(kWaitingTokens % kTileColumns == 0);

struct IntegerPanel {
  int16_t* words;  // (groups, kGroupSteps, kIntegerRows, 2)
  float* scales;   // (groups, kIntegerRows)
  explicit IntegerPanel(float* scratch) : words((int16_t*)(scratch + kPanelGroups * kIntegerRows)), scales(scratch) {}
  float* end(int groups) const {
    return (float*)words + (size_t)(groups < kPanelGroups ? groups : kPanelGroups) * kGroupSteps * kIntegerRows;
  }

  // The rows of one register, groups [first, last).
  template <class Format>
  void fill(const Format& rows, int half, int first, int last, int groups) const {
    const Scales row_scales(rows, first, groups);
    int16_t* to = words + half * kLanes * 2;
    for (int g = first; g < last; ++g) {
      store(scales + (g - first) * kIntegerRows + half * kLanes, row_scales.of(g));
      Ints w[kQuads];
      Format::template fetch<false>(rows, g, w);
      for (int i = 0; i < kQuads; ++i, to += kIntegerRows * 2) {
        store_ints(to, even_words(w[i]));
        store_ints(to + kQuads * kIntegerRows * 2, odd_words(w[i]));
      }
      to += kQuads * kIntegerRows * 2;
    }
    const uint8_t* const next = rows.weight + (size_t)(first + kPanelGroups) * Format::kGroupBytes;
    for (int at = 0; at < kPanelGroups * Format::kGroupBytes; at += 64) ask<kLanes>(next + at, rows.row_bytes);
  }
};

// T tokens meet `groups` of a panel: what waits (kIntegerRows / kLanes, T, kLanes), goes on, or begins.
template <int T>
static inline void integer_tile(const IntegerPanel& panel, int groups, const int* pairs, const float* units, bool begins,
                                float* waiting) {
  V acc[2][T];
  for (int half = 0; half < 2; ++half)
    for (int t = 0; t < T; ++t) acc[half][t] = begins ? zero() : load(waiting + (half * T + t) * kLanes);
  const int16_t* w = panel.words;
  for (int g = 0; g < groups; ++g) {
    Ints sums[2][T];
    for (int half = 0; half < 2; ++half)
      for (int t = 0; t < T; ++t) sums[half][t] = no_ints();
#pragma GCC unroll 16
    for (int step = 0; step < kGroupSteps; ++step, w += 2 * kIntegerRows, pairs += kTileColumns) {
      const Ints low = load_ints(w), high = load_ints(w + kIntegerRows);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const Ints pair = broadcast_ints(pairs + t);
        sums[0][t] = add_words(sums[0][t], low, pair);
        sums[1][t] = add_words(sums[1][t], high, pair);
      }
    }
    for (int half = 0; half < 2; ++half) {
      const V row_scales = load(panel.scales + g * kIntegerRows + half * kLanes);
      for (int t = 0; t < T; ++t) acc[half][t] = add_group(acc[half][t], sums[half][t], units[g * kTileColumns + t], row_scales);
    }
  }
  for (int half = 0; half < 2; ++half)
    for (int t = 0; t < T; ++t) store(waiting + (half * T + t) * kLanes, acc[half][t]);
}

// Up to kWaitingTokens of them, from one of `x` on, meet up to kIntegerRows rows.
template <class Format>
static inline void integer_panels(const Format& all, int rows, const ManyTokens& x, int token, int tokens, float* scratch,
                                  float* y, size_t y_stride) {
  float* const waiting = scratch;
  const IntegerPanel panel(waiting + kWaitingTokens * kIntegerRows);
  Format half[2] = {all, rows > kLanes ? advance(all, kLanes) : all};
  if (const int rest = rows % kLanes) half[rows / kLanes] = filled_up(half[rows / kLanes], rest, x.groups, panel.end(x.groups));
  if (rows < kLanes) half[1] = half[0];
  const auto tiles = [&](auto use) {  // use(tile of T, its first token)
    for (int t = 0; t < tokens; t += kIntegerTile)
      tokens - t > kIntegerTile / 2 ? use(Count<kIntegerTile>{}, t) : use(Count<kIntegerTile / 2>{}, t);
  };
  for (int first = 0; first < x.groups; first += kPanelGroups) {
    const int last = first + kPanelGroups < x.groups ? first + kPanelGroups : x.groups;
    for (int h = 0; h < 2; ++h) panel.template fill<Format>(half[h], h, first, last, x.groups);
    tiles([&](auto count, int t) {
      integer_tile<decltype(count)::value>(panel, last - first, x.pairs(token + t) + first * ManyTokens::kGroup,
                                           x.units(token + t) + first * kTileColumns, first == 0, waiting + t * kIntegerRows);
    });
  }
  tiles([&](auto count, int t) {
    constexpr int T = decltype(count)::value;
    for (int h = 0; h < 2 && h * kLanes < rows; ++h)
      for (int i = 0; i < T && t + i < tokens; ++i)
        store_some(y + (t + i) * y_stride + h * kLanes, rows - h * kLanes,
                   load(waiting + t * kIntegerRows + (h * T + i) * kLanes));
  });
}

// ---- whole products ----------------------------------------------------------------------------------------

template <class Format>
static inline void integer_dot(const DotArgs& a) {
  const Format all = rows_of<Format>(a);
  const int groups = (int)round_up(a.k, kPackGroup) / kPackGroup;
  const FewTokens few(a.panel, groups);
  static_assert(kIntegerPanelFrom == 9);
  switch (a.tokens) {
    case 8: return integer_strips<8>(all, few, a);
    case 7: return integer_strips<7>(all, few, a);
    case 6: return integer_strips<6>(all, few, a);
    case 5: return integer_strips<5>(all, few, a);
    case 4: return integer_strips<4>(all, few, a);
    case 3: return integer_strips<3>(all, few, a);
    case 2: return integer_strips<2>(all, few, a);
    case 1: return integer_strips<1>(all, few, a);
  }
  const ManyTokens many(a.panel, groups);
  const auto at_most = [](int most, int n) { return n < most ? n : most; };
  for (int row = 0; row < a.rows; row += kIntegerRows)
    for (int t = 0; t < a.tokens; t += kWaitingTokens)
      integer_panels(advance(all, row), at_most(kIntegerRows, a.rows - row), many, t, at_most(kWaitingTokens, a.tokens - t),
                     a.scratch, a.y + t * a.y_stride + row, a.y_stride);
}
static void integer_dot_mxfp4(const DotArgs& a) { a.exact ? dot_mxfp4(a) : integer_dot<Mxfp4Integers>(a); }
static void integer_dot_int8(const DotArgs& a) { a.exact ? dot_int8(a) : integer_dot<Int8Integers>(a); }

// ---- ceiling -----------------------------------------------------------------------------------------------

static float integer_multiply_add(long iterations, long* flops) {
#if defined(GPTOSS_VNNI)
  constexpr int kSums = 12;  // latency 5, two a cycle, and some to spare
#else
  constexpr int kSums = 8;
#endif
  const int one = 0x00010001;
  Ints acc[kSums], ones = broadcast_ints(&one);
  for (Ints& a : acc) a = no_ints();
  for (long n = 0; n < iterations; ++n)
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
#if !defined(GPTOSS_VNNI)
      asm("" : "+x"(ones));  // or one product would do for all sums
#endif
      acc[i] = add_words(acc[i], ones, ones);
    }
  *flops = iterations * kSums * 2 * 2 * kLanes;
  V total = zero();
  for (int i = 0; i < kSums; ++i) total = add(total, floats_of(acc[i]));
  return sum(total);
}
