// Products of integers, of weights that have few bits and a power of two for each group of 32: MXFP4 and 8 bits, in
// `fast`. `exact`, and weights in bf16, stay with float32.
//
// Activations arrive rounded to bf16. A group of them becomes 15-bit integers X in units of a power of two, u = 2^-13 of
// the power of two in its largest: what is at least 1/64 of that is the very bf16, anything else is off by u / 2 at most,
// 2^-14 of the largest. A group that has something infinite or not a number spoils its token, as it would anyway; one that
// is all below 2^-112 takes u = 2^-126. Weights are 8-bit integers, or twice the values of E2M1 codes.
//
// The sum over a group is then exact in 32 bits, however it is added up: |sum| <= 32 * 127 * 2^14 < 2^31. So different
// instructions give the same bits:
//  - a few tokens meet eight rows as they lie in memory. X = 256 h + l: VPMADDUBSW multiplies signed bytes of activations
//    by unsigned ones, so MXFP4 takes 12 more than twice the value, which what a group's sums start from makes good. A
//    pair is at most 2 * 24 * 128, and what 16 of h or l add up to at most 16 * 12 * 128: they fit 16 bits, wherever they
//    pass on the way. Weights of 8 bits meet X itself, by VPMADDWD.
//  - many tokens meet a panel with rows in the lanes, by VPMADDWD.
// From there on an element is one chain over the groups in their order, each rounded once or twice.
//
// Included by kernels_avx2.cpp after kernels.inl, in the same namespace; see there for what may be used.

using Ints = __m256i;
constexpr int kRowsTogether = 8;                       // as many sums fit a register
constexpr int kGroupSteps = kPackGroup / 2;            // pairs of a group
constexpr int kIntegerTile = 4;                        // tokens that meet 16 rows of a panel
constexpr int kIntegerRows = 2 * kRowsTogether;        // of a panel
constexpr int kIntegerPanelFrom = kIntegerTile + 1;    // tokens

static inline Ints load_ints(const void* p) { return _mm256_loadu_si256((const Ints*)p); }
static inline void store_ints(void* p, Ints x) { _mm256_storeu_si256((Ints*)p, x); }

static inline Ints broadcast_ints(const void* p) {
  int dword;
  __builtin_memcpy(&dword, p, sizeof dword);
  return _mm256_set1_epi32(dword);
}

// Sums of pairs. Without the barriers GCC adds them up as a tree, for which there are not enough registers.
static inline Ints add_words(Ints acc, Ints w, Ints x) {
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(w, x));
  asm("" : "+x"(acc));
  return acc;
}
static inline Ints add_bytes(Ints acc, Ints w, Ints x) {  // w without signs; sums of 16 bits
  acc = _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x));
  asm("" : "+x"(acc));
  return acc;
}

// ---- weights -----------------------------------------------------------------------------------------------
// fetch: the 32 integers of a group, 16 in each register, in the order of IntegerForm.

struct Mxfp4Group;
struct Int8Group;

struct Mxfp4Integers : Rows {
  using EightRows = Mxfp4Group;
  static constexpr int kGroupBytes = kPackGroup / 2, kAheadBytes = 2048;
  void fetch(int row, int group, Ints (&w)[2]) const {
    const Ints twice = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12));
    const __m128i* const p = (const __m128i*)(weight + row * row_bytes + (size_t)group * kGroupBytes);
    const Ints bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(p));
    const Ints codes = _mm256_and_si256(_mm256_srlv_epi64(bytes, _mm256_setr_epi64x(0, 0, 4, 4)), _mm256_set1_epi8(15));
    const Ints values = _mm256_shuffle_epi8(twice, codes);  // of even places, then of odd ones
    w[0] = _mm256_srai_epi16(_mm256_slli_epi16(values, 8), 8);  // every other of them, and the others
    w[1] = _mm256_srai_epi16(values, 8);
  }
};

struct Int8Integers : Rows {
  using EightRows = Int8Group;
  static constexpr int kGroupBytes = kPackGroup, kAheadBytes = 2048;
  void fetch(int row, int group, Ints (&w)[2]) const {
    const __m128i* const p = (const __m128i*)(weight + row * row_bytes + (size_t)group * kGroupBytes);
    w[0] = _mm256_cvtepi8_epi16(_mm_loadu_si128(p));
    w[1] = _mm256_cvtepi8_epi16(_mm_loadu_si128(p + 1));
  }
};

// The scales of eight rows: those of groups g to g + 7, or of the last eight, or of as many as there are.
struct Scales {
  int base;
  uint64_t rows[8];  // of each group: a byte for each row

  Scales(const Rows& all, int g, int groups) : base(g + 8 <= groups ? g : groups < 8 ? 0 : groups - 8) {
    if (groups >= 8) {
      turn(all.scales + base, all.scale_bytes);
      return;
    }
    uint8_t few[8][8] = {};
    for (int r = 0; r < 8; ++r)
      for (int i = 0; i < groups; ++i) few[r][i] = all.scales[r * all.scale_bytes + i];
    turn(few[0], 8);
  }
  // 2^(scale - 127); scale 0 is a subnormal, and 255 spoils the row.
  V of(int g) const {
    const Ints scale = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(rows + g - base)));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(scale, 23), _mm256_set1_epi32(0x00400000)));
  }

 private:
  void turn(const uint8_t* p, size_t stride) {
    __m128i pair[4];  // rows i and i + 4: the bytes of a group side by side
    for (int i = 0; i < 4; ++i)
      pair[i] = _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i*)(p + i * stride)),
                                  _mm_loadl_epi64((const __m128i*)(p + (i + 4) * stride)));
    for (int half = 0; half < 2; ++half) {
      const auto unpack = [half](__m128i a, __m128i b) { return half ? _mm_unpackhi_epi8(a, b) : _mm_unpacklo_epi8(a, b); };
      const __m128i even = unpack(pair[0], pair[2]), odd = unpack(pair[1], pair[3]);  // rows 0 2 4 6, and 1 3 5 7
      _mm_storeu_si128((__m128i*)(rows + 4 * half), _mm_unpacklo_epi8(even, odd));
      _mm_storeu_si128((__m128i*)(rows + 4 * half + 2), _mm_unpackhi_epi8(even, odd));
    }
  }
};

// ---- activations -------------------------------------------------------------------------------------------
// A token: for each group 64 bytes, then for each group its unit, and where a few tokens are for MXFP4 what its sums start
// from. A packed row has room for all that.

enum class IntegerForm {
  bytes,         // h, then l, in the order of packed activations: of Mxfp4Integers, a few tokens
  words,         // X in the order of packed activations: of Int8Integers
  split_words,   // X at even places of that order, then at odd ones: of Mxfp4Integers, many tokens
};
static inline IntegerForm integer_form(bool mxfp4, int tokens) {
  return !mxfp4 ? IntegerForm::words : tokens < kIntegerPanelFrom ? IntegerForm::bytes : IntegerForm::split_words;
}

struct ByteStart {
  int16_t h[2], l[2];  // -12 times the sums at places 0 and 1, and at places 2 and 3, of every four
};
struct Integers {
  const uint8_t* data;
  size_t stride;
  int groups;
  Integers(const DotArgs& a, int count) : data((const uint8_t*)a.panel), stride(count * kPackGroup * sizeof(float)), groups(count) {}
  const uint8_t* group(int token, int g) const { return data + token * stride + (size_t)g * 64; }
  const float* units(int token) const { return (const float*)group(token, groups); }
  const ByteStart* starts(int token) const { return (const ByteStart*)(units(token) + groups); }
};
static_assert(64 + sizeof(float) + sizeof(ByteStart) <= kPackGroup * sizeof(float));

// Of 32 packed activations, and their unit.
static inline float integer_group(const float* x, IntegerForm form, uint8_t* to, ByteStart* start) {
  V part[4];
  Ints size = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) {
    part[i] = load(x + i * kLanes);
    size = _mm256_max_epi32(size, _mm256_and_si256(_mm256_castps_si256(part[i]), _mm256_set1_epi32(0x7fffffff)));
  }
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(size), _mm256_extracti128_si256(size, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b01001110));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0b10110001));
  int exponent = _mm_cvtsi128_si32(four) >> 23;
  const bool finite = exponent < 255;
  exponent = exponent < 14 ? 14 : exponent;
  const V units = set1(finite ? __builtin_bit_cast(float, (267 - exponent) << 23) : 0.0f);  // 1 / u
  Ints whole[4];
  for (int i = 0; i < 4; ++i)  // what is no number becomes whatever it becomes: its unit is none either
    whole[i] = _mm256_cvtps_epi32(mul(part[i], units));
  const auto narrow = [](Ints a, Ints b) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0b11011000); };
  const Ints first = narrow(whole[0], whole[1]), second = narrow(whole[2], whole[3]);
  if (form == IntegerForm::words) {
    store_ints(to, first);
    store_ints(to + 32, second);
  } else if (form == IntegerForm::split_words) {
    const auto even = [](Ints a) { return _mm256_srai_epi32(_mm256_slli_epi32(a, 16), 16); };
    const auto odd = [](Ints a) { return _mm256_srai_epi32(a, 16); };
    store_ints(to, narrow(even(first), even(second)));
    store_ints(to + 32, narrow(odd(first), odd(second)));
  } else {
    const auto l_of = [](Ints a) { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); };
    const auto h_of = [&](Ints a) { return _mm256_srai_epi16(_mm256_sub_epi16(a, l_of(a)), 8); };
    const auto bytes = [](Ints a, Ints b) { return _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0b11011000); };
    const auto starting = [](Ints bytes, int16_t (&sums)[2]) {
      const Ints pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(12), bytes);
      __m128i sum = _mm_add_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
      sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 0b01001110));
      sum = _mm_add_epi16(sum, _mm_shuffle_epi32(sum, 0b10110001));
      const int both = _mm_cvtsi128_si32(_mm_sub_epi16(_mm_setzero_si128(), sum));
      __builtin_memcpy(sums, &both, sizeof both);
    };
    const Ints h = bytes(h_of(first), h_of(second)), l = bytes(l_of(first), l_of(second));
    store_ints(to, h);
    store_ints(to + 32, l);
    starting(h, start->h);
    starting(l, start->l);
  }
  const float unit = __builtin_bit_cast(float, (exponent - 13) << 23);
  if (!finite) return __builtin_nanf("");
  return form == IntegerForm::words ? unit : unit * 0.5f;  // Mxfp4Integers has twice the values
}

template <IntegerForm form>
static void integer_token(const float* x, int groups, uint8_t* to) {
  float* const units = (float*)(to + (size_t)groups * 64);
  ByteStart* const starts = (ByteStart*)(units + groups);
  for (int g = 0; g < groups; ++g) units[g] = integer_group(x + g * kPackGroup, form, to + (size_t)g * 64, starts + g);
}

static void integers(const float* const* x, int tokens, int of, int k, bool mxfp4, void* to) {
  const int groups = (int)round_up(k, kPackGroup) / kPackGroup;
  const size_t stride = (size_t)groups * kPackGroup * sizeof(float);
  for (int t = 0; t < tokens; ++t) {
    uint8_t* const token = (uint8_t*)to + t * stride;
    switch (integer_form(mxfp4, of)) {
      case IntegerForm::bytes: integer_token<IntegerForm::bytes>(x[t], groups, token); break;
      case IntegerForm::words: integer_token<IntegerForm::words>(x[t], groups, token); break;
      case IntegerForm::split_words: integer_token<IntegerForm::split_words>(x[t], groups, token); break;
    }
  }
}

// ---- few tokens --------------------------------------------------------------------------------------------

// acc + sums * (scale of the activations) * (scales of the rows)
static inline V add_group(V acc, Ints sums, float x_scale, V row_scales) {
  return fma(mul(_mm256_cvtepi32_ps(sums), set1(x_scale)), row_scales, acc);
}

// Of eight registers the sums of their lanes.
static inline Ints sums_of_eight(const Ints (&v)[kRowsTogether]) {
  const auto two = [](Ints a, Ints b) { return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)); };
  const auto four = [](Ints a, Ints b) { return _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b)); };
  const Ints low = four(two(v[0], v[1]), two(v[2], v[3])), high = four(two(v[4], v[5]), two(v[6], v[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

// Eight rows of a group, and what they and the activations of a token add up to.
struct Int8Group {  // 16 registers of weights: fetched again for every token
  const Int8Integers& rows;
  Int8Group(const Int8Integers& all, int) : rows(all) {}
  Ints dot(const Integers& x, int token, int g) const {
    const Ints x0 = load_ints(x.group(token, g)), x1 = load_ints(x.group(token, g) + 32);
    Ints sums[kRowsTogether];
    for (int r = 0; r < kRowsTogether; ++r) {
      Ints w[2];
      rows.fetch(r, g, w);
      sums[r] = _mm256_add_epi32(_mm256_madd_epi16(w[0], x0), _mm256_madd_epi16(w[1], x1));
    }
    return sums_of_eight(sums);
  }
};

struct Mxfp4Group {
  Ints w[8];  // a row in every lane: four weights at even places, 12 added to twice their values; then those at odd places
  Mxfp4Group(const Mxfp4Integers& rows, int g) {
    const auto codes = [&](int r) { return _mm_loadu_si128((const __m128i*)(rows.weight + r * rows.row_bytes + (size_t)g * 16)); };
    Ints both[4];
    for (int r = 0; r < 4; ++r) both[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(codes(r)), codes(r + 4), 1);
    const Ints low01 = _mm256_unpacklo_epi32(both[0], both[1]), low23 = _mm256_unpacklo_epi32(both[2], both[3]);
    const Ints high01 = _mm256_unpackhi_epi32(both[0], both[1]), high23 = _mm256_unpackhi_epi32(both[2], both[3]);
    const Ints turned[4] = {_mm256_unpacklo_epi64(low01, low23), _mm256_unpackhi_epi64(low01, low23),
                            _mm256_unpacklo_epi64(high01, high23), _mm256_unpackhi_epi64(high01, high23)};
    const Ints values = _mm256_broadcastsi128_si256(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
    const Ints nibble = _mm256_set1_epi8(15);
    for (int i = 0; i < 4; ++i) {
      w[i] = _mm256_shuffle_epi8(values, _mm256_and_si256(turned[i], nibble));
      w[i + 4] = _mm256_shuffle_epi8(values, _mm256_and_si256(_mm256_srli_epi16(turned[i], 4), nibble));
    }
  }
  Ints dot(const Integers& x, int token, int g) const {
    const uint8_t* const bytes = x.group(token, g);
    Ints h = broadcast_ints(x.starts(token)[g].h), l = broadcast_ints(x.starts(token)[g].l);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      h = add_bytes(h, w[i], broadcast_ints(bytes + 4 * i));
      l = add_bytes(l, w[i], broadcast_ints(bytes + 32 + 4 * i));
    }
    return _mm256_add_epi32(_mm256_madd_epi16(h, _mm256_set1_epi16(256)), _mm256_madd_epi16(l, _mm256_set1_epi16(1)));
  }
};

// Eight rows meet T tokens; y[t * y_stride + r * y_rows].
template <int T, class Format>
__attribute__((noinline)) static void integer_rows(const Format rows, const Integers& x, float* y, size_t y_stride, size_t y_rows,
                                                   const uint8_t* later) {
  V acc[T];
  for (int t = 0; t < T; ++t) acc[t] = zero();
  for (int first = 0; first < x.groups; first += 8) {
    const Scales scales(rows, first, x.groups);
    const int last = first + 8 < x.groups ? first + 8 : x.groups;
    for (int g = first; g < last; ++g) {
      if (g % (64 / Format::kGroupBytes) == 0)
        ask<kRowsTogether>(later + (size_t)g * Format::kGroupBytes, rows.row_bytes);
      const V row_scales = scales.of(g);
      const typename Format::EightRows group(rows, g);
      for (int t = 0; t < T; ++t) acc[t] = add_group(acc[t], group.dot(x, t, g), x.units(t)[g], row_scales);
    }
  }
  for (int t = 0; t < T; ++t) {
    float lanes[kLanes];
    store(lanes, acc[t]);
    for (int r = 0; r < kRowsTogether; ++r) y[t * y_stride + r * y_rows] = lanes[r];
  }
}

// Eight rows out of as many strips, as in dot_strips; those that are left over in a copy, the last one standing in for
// what is missing.
template <int T, class Format>
static inline void integer_strips(const Format& all, const Integers& x, const DotArgs& a) {
  const Strips strips(a, kRowsTogether);
  for (int i = 0; i < strips.rows; ++i) {
    strips.ask_scales(i);
    integer_rows<T>(every(all, i, strips.rows), x, a.y + i, a.y_stride, strips.rows, strips.later<Format>(i));
  }
  const int rest = a.rows - strips.rows * kRowsTogether;
  if (rest == 0) return;
  const size_t row_bytes = (size_t)x.groups * Format::kGroupBytes;
  uint8_t* const weight = (uint8_t*)a.scratch;
  uint8_t* const scales = weight + kRowsTogether * row_bytes;
  for (int r = 0; r < kRowsTogether; ++r) {
    const int row = a.rows - rest + (r < rest ? r : rest - 1);
    __builtin_memcpy(weight + r * row_bytes, all.weight + row * all.row_bytes, row_bytes);
    __builtin_memcpy(scales + r * x.groups, all.scales + row * all.scale_bytes, x.groups);
  }
  float y[T * kRowsTogether];
  integer_rows<T>(Format{{weight, scales, row_bytes, (size_t)x.groups}}, x, y, kRowsTogether, 1, weight);
  for (int t = 0; t < T; ++t)
    for (int r = 0; r < rest; ++r) a.y[t * a.y_stride + a.rows - rest + r] = y[t * kRowsTogether + r];
}

// ---- many tokens -------------------------------------------------------------------------------------------
// A panel: 16 rows in the lanes of two registers, a pair of each in every step, and the scales of every group.

struct IntegerPanel {
  int16_t* words;  // (groups, kGroupSteps, kIntegerRows, 2)
  float* scales;   // (groups, kIntegerRows)
};

template <class Format>
static inline void fill_integer_panel(const Format& all, int rows, int groups, IntegerPanel to) {
  for (int half = 0; half < 2; ++half) {
    const auto row_of = [&](int r) {
      const int row = half * kRowsTogether + r;
      return row < rows ? row : rows - 1;
    };
    for (int g = 0; g < groups; ++g) {
      V turned[2][kRowsTogether];
      float scales[kRowsTogether];
      for (int r = 0; r < kRowsTogether; ++r) {
        const int row = row_of(r);
        if (g % (64 / Format::kGroupBytes) == 0)
          __builtin_prefetch(all.weight + row * all.row_bytes + (size_t)g * Format::kGroupBytes + Format::kAheadBytes);
        Ints w[2];
        all.fetch(row, g, w);
        for (int i = 0; i < 2; ++i) turned[i][r] = _mm256_castsi256_ps(w[i]);
        scales[r] = kE8m0.value[all.scales[row * all.scale_bytes + g]];
      }
      store(to.scales + g * kIntegerRows + half * kRowsTogether, load(scales));
      for (int i = 0; i < 2; ++i) {
        transpose(turned[i]);
        for (int step = 0; step < kRowsTogether; ++step)
          store_ints(to.words + ((g * kGroupSteps + i * kRowsTogether + step) * kIntegerRows + half * kRowsTogether) * 2,
                     _mm256_castps_si256(turned[i][step]));
      }
    }
  }
}

// kIntegerTile tokens from `token` on meet a panel.
static inline void integer_tile(IntegerPanel panel, const Integers& x, int token, int rows, float* y, size_t y_stride) {
  V acc[2][kIntegerTile];
  for (int half = 0; half < 2; ++half)
    for (int t = 0; t < kIntegerTile; ++t) acc[half][t] = zero();
  const int16_t* w = panel.words;
  for (int g = 0; g < x.groups; ++g) {
    Ints sums[2][kIntegerTile];
    for (int half = 0; half < 2; ++half)
      for (int t = 0; t < kIntegerTile; ++t) sums[half][t] = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int step = 0; step < kGroupSteps; ++step, w += 2 * kIntegerRows) {
      const Ints low = load_ints(w), high = load_ints(w + kIntegerRows);
#pragma GCC unroll 4
      for (int t = 0; t < kIntegerTile; ++t) {
        const Ints pair = broadcast_ints(x.group(token + t, g) + 4 * step);
        sums[0][t] = add_words(sums[0][t], low, pair);
        sums[1][t] = add_words(sums[1][t], high, pair);
      }
    }
    for (int half = 0; half < 2; ++half) {
      const V row_scales = load(panel.scales + g * kIntegerRows + half * kRowsTogether);
      for (int t = 0; t < kIntegerTile; ++t)
        acc[half][t] = add_group(acc[half][t], sums[half][t], x.units(token + t)[g], row_scales);
    }
  }
  for (int half = 0; half < 2 && half * kRowsTogether < rows; ++half)
    for (int t = 0; t < kIntegerTile; ++t)
      store_some(y + t * y_stride + half * kRowsTogether, rows - half * kRowsTogether, acc[half][t]);
}

template <class Format>
static inline void integer_panels(const Format& all, const Integers& x, const DotArgs& a) {
  const IntegerPanel panel = {(int16_t*)(a.scratch + x.groups * kIntegerRows), a.scratch};
  for (int row = 0; row < a.rows; row += kIntegerRows) {
    const int rows = a.rows - row < kIntegerRows ? a.rows - row : kIntegerRows;
    fill_integer_panel(advance(all, row), rows, x.groups, panel);
    for (int t = 0; t < a.tokens; t += kIntegerTile) {
      const int token = t + kIntegerTile <= a.tokens ? t : a.tokens - kIntegerTile;  // some a second time, to the same bits
      integer_tile(panel, x, token, rows, a.y + token * a.y_stride + row, a.y_stride);
    }
  }
}

// ---- whole products ----------------------------------------------------------------------------------------

template <class Format>
static inline void integer_dot(const DotArgs& a) {
  const Format all = rows_of<Format>(a);
  const Integers x(a, (int)round_up(a.k, kPackGroup) / kPackGroup);
  switch (a.tokens) {
    case 1: return integer_strips<1>(all, x, a);
    case 2: return integer_strips<2>(all, x, a);
    case 3: return integer_strips<3>(all, x, a);
    case 4: return integer_strips<4>(all, x, a);
  }
  static_assert(kIntegerPanelFrom == 5);
  integer_panels(all, x, a);
}
static void integer_dot_mxfp4(const DotArgs& a) { a.exact ? dot_mxfp4(a) : integer_dot<Mxfp4Integers>(a); }
static void integer_dot_int8(const DotArgs& a) { a.exact ? dot_int8(a) : integer_dot<Int8Integers>(a); }

// ---- ceiling -----------------------------------------------------------------------------------------------

static float integer_multiply_add(long iterations, long* flops) {
  constexpr int kSums = 8;
  Ints acc[kSums];
  for (Ints& a : acc) a = _mm256_setzero_si256();
  Ints ones = _mm256_set1_epi16(1);
  for (long n = 0; n < iterations; ++n)
    for (int i = 0; i < kSums; ++i) {
      asm("" : "+x"(ones));  // or one product would do for all sums
      acc[i] = add_words(acc[i], ones, ones);
    }
  *flops = iterations * kSums * 2 * 2 * kLanes;
  V total = zero();
  for (int i = 0; i < kSums; ++i) total = add(total, _mm256_cvtepi32_ps(acc[i]));
  return sum(total);
}
