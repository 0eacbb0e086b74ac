// Products y(t, r) = sum over k of w(r, k) x(t, k), once for every instruction set and every format of weights.
//
// Many rows meet many tokens in tiles of registers. An element is kLanes chains over k in their order, then one fixed
// tree: the same in every tile, so that a token's result does not depend on what is computed beside it.
//
// Included by kernels.inl. `W` is a register of weights, as a format fetches it: kLanes floats (V), two of which make a
// chunk of a packed group, or, after dpbf16.inl, a whole group of 32 bf16.

// Tiles fill the registers: 32 of them on AVX-512 and NEON, else 16.
#if defined(GPTOSS_AVX512)
constexpr int kTileSums = 24, kPanelRegisters = 2, kPanelTile = 8;
#elif defined(GPTOSS_NEON)
constexpr int kTileSums = 24, kPanelRegisters = 4, kPanelTile = 4;
#else
constexpr int kTileSums = 12, kPanelRegisters = 2, kPanelTile = 4;
#endif
constexpr int kPanelFrom = 13;  // tokens for which panels are made; see Format::kDirectTokens

// ---- formats -----------------------------------------------------------------------------------------------
// A format is rows in memory, the scale of a group, and `fetch`, which makes registers of a chunk of it.

template <int n>
struct Count {
  static constexpr int value = n;
};

struct Rows {
  const uint8_t* weight;
  const uint8_t* scales;  // null, and scale_bytes 0, where the format has none
  size_t row_bytes, scale_bytes;
};
template <class Format>
static inline Format rows_of(const DotArgs& a) {
  return {{(const uint8_t*)a.weight, a.scales, a.row_bytes, a.scale_bytes}};
}
template <class Format>
static inline Format advance(Format rows, int r) {
  rows.weight += r * rows.row_bytes;
  rows.scales += r * rows.scale_bytes;
  return rows;
}
template <class Format>
static inline Format skip(Format rows, int groups) {
  rows.weight += groups * Format::kGroupBytes;
  rows.scales += rows.scale_bytes ? groups : 0;
  return rows;
}
// Every n-th row, beginning with row i.
template <class Format>
static inline Format every(Format rows, int i, int n) {
  rows = advance(rows, i);
  rows.row_bytes *= n;
  rows.scale_bytes *= n;
  return rows;
}

// Formats whose registers are floats: of each chunk those at even places, then those at odd ones.
struct FloatFormat : Rows {
  using W = V;
  static constexpr int kFetched = 2, kGroupChunks = kChunks, kAheadBytes = 2048;
  static constexpr int kDirectTokens = kLanes == 16 ? 24 : 12;  // as many meet the weights as they come, more by way of a panel
  // Where in a packed row the activations are that a register meets.
  static constexpr int place(int group, int chunk, int i) { return group * kPackGroup + i * kHalf + chunk * kLanes; }
  static V load_w(const float* p) { return load(p); }
  static V broadcast_w(const float* p) { return set1(*p); }
  static V lanes(V w) { return w; }
};

struct Bf16Rows : FloatFormat {
  static constexpr int kGroupBytes = 2 * kPackGroup;
  struct Group {};
  Group group(int, int) const { return {}; }
  void fetch(int row, int group, int chunk, Group, V (&w)[2]) const {
    const uint16_t* p = (const uint16_t*)(weight + row * row_bytes) + group * kPackGroup + chunk * 2 * kLanes;
    load_bf16_pairs(p, w[0], w[1]);
  }
};

struct Mxfp4Rows : FloatFormat {
  static constexpr int kGroupBytes = kPackGroup / 2;
  static constexpr int kFetched = kMxfp4Registers, kGroupChunks = 2 * kChunks / kFetched;
  static constexpr int place(int group, int chunk, int i) {
    return FloatFormat::place(group, chunk * (kFetched / 2) + i / 2, i % 2);
  }
  using Group = Mxfp4;
  Group group(int row, int group) const { return mxfp4(scales[row * scale_bytes + group]); }
  void fetch(int row, int group, int chunk, Group scale, V (&w)[kFetched]) const {
    load_mxfp4(weight + row * row_bytes + group * kGroupBytes + chunk * (kFetched / 2) * kLanes, scale, w);
  }
};

struct Int8Rows : FloatFormat {
  static constexpr int kGroupBytes = kPackGroup;
  struct Group {
    V scale;
  };
  Group group(int row, int group) const { return {set1(kE8m0.value[scales[row * scale_bytes + group]])}; }
  void fetch(int row, int group, int chunk, Group g, V (&w)[2]) const {
    const int8_t* p = (const int8_t*)weight + row * row_bytes + group * kGroupBytes + chunk * kLanes;
    w[0] = mul(load_int8(p), g.scale);
    w[1] = mul(load_int8(p + kHalf), g.scale);
  }
};

// ---- tiles -------------------------------------------------------------------------------------------------

template <int R>
static inline void ask(const uint8_t* weight, size_t row_bytes) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) __builtin_prefetch(weight + r * row_bytes);
}

// y[t * y_stride + r * y_rows] for R rows and T tokens. `ahead`: the weights come from memory, not from L1, and those of
// which `later` is the first row are wanted soon.
template <int R, int T, bool ahead, class Format>
static inline void dot_tile(const Format rows, int groups, const float* const* x, float* y, size_t y_stride, size_t y_rows,
                            const uint8_t* later) {
  using W = typename Format::W;
  V acc[R][T];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[r][t] = zero();
  for (int g = 0; g < groups; ++g) {
    if (ahead && (Format::kGroupBytes >= 64 || g % (64 / Format::kGroupBytes) == 0))
      ask<R>(later + (size_t)g * Format::kGroupBytes, rows.row_bytes);
    if constexpr (Format::kFetched > 2) {  // row by row: the registers do not hold the weights of all
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        W w[Format::kFetched];
        rows.fetch(r, g, 0, rows.group(r, g), w);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t)
          for (int i = 0; i < Format::kFetched; ++i) acc[r][t] = fma(w[i], Format::load_w(x[t] + Format::place(g, 0, i)), acc[r][t]);
      }
      continue;
    }
    typename Format::Group scale[R];
    for (int r = 0; r < R; ++r) scale[r] = rows.group(r, g);
    for (int c = 0; c < Format::kGroupChunks; ++c) {
      W w[R][Format::kFetched];
      for (int r = 0; r < R; ++r) rows.fetch(r, g, c, scale[r], w[r]);
      for (int i = 0; i < Format::kFetched; ++i)  // the even places of all tokens first: so everything fits the registers
        for (int t = 0; t < T; ++t) {
          const W xt = Format::load_w(x[t] + Format::place(g, c, i));
          for (int r = 0; r < R; ++r) acc[r][t] = fma(w[r][i], xt, acc[r][t]);
        }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) y[t * y_stride + r * y_rows] = sum(acc[r][t]);
}

template <int R, int T, int most, class Format>
static inline void some_tokens(const Format rows, int groups, const float* const* x, float* y, size_t y_stride, size_t y_rows,
                               const uint8_t* later) {
  if constexpr (T <= most)
    later ? dot_tile<R, T, true>(rows, groups, x, y, y_stride, y_rows, later)
          : dot_tile<R, T, false>(rows, groups, x, y, y_stride, y_rows, later);
}

// R rows meet all tokens, in as few tiles as the registers allow, of about the same size; from the second one on their
// weights are in L1.
template <int R, class Format>
static inline void dot_tokens(const Format rows, int groups, const float* const* x, int tokens, float* y, size_t y_stride,
                              size_t y_rows, const uint8_t* later) {
  constexpr int kMost = kTileSums / R < 8 ? kTileSums / R : 8;
  for (int tiles = (tokens + kMost - 1) / kMost; tiles > 0; --tiles, later = nullptr) {
    const int own = (tokens + tiles - 1) / tiles;
    switch (own) {
      case 8: some_tokens<R, 8, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 7: some_tokens<R, 7, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 6: some_tokens<R, 6, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 5: some_tokens<R, 5, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 4: some_tokens<R, 4, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 3: some_tokens<R, 3, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 2: some_tokens<R, 2, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
      case 1: some_tokens<R, 1, kMost>(rows, groups, x, y, y_stride, y_rows, later); break;
    }
    tokens -= own;
    x += own;
    y += own * y_stride;
  }
}

// Rows that are computed together come out of as many strips of consecutive rows: so the memory sees a few long streams,
// which its own prefetch follows, instead of new ones with every tile. Where they end, the next task's go on.
struct Strips {
  const DotArgs& a;
  int rows;  // of a strip
  size_t scale_lines;
  Strips(const DotArgs& args, int count)
      : a(args), rows(args.rows / count), scale_lines(args.next_scales ? args.rows * args.scale_bytes / 64 : 0) {}
  // The first row that is wanted kAheadBytes after row i of the first strip.
  template <class Format>
  const uint8_t* later(int i) const {
    const uint8_t* const weight = (const uint8_t*)a.weight;
    const size_t end = rows * a.row_bytes, to = i * a.row_bytes + Format::kAheadBytes;
    return a.next && to + a.row_bytes / 2 >= end ? (const uint8_t*)a.next + (ptrdiff_t)(to - end) : weight + to;
  }
  // Part i of the next task's scales, streams too slow for the memory's own prefetch.
  void ask_scales(int i) const {
    for (size_t line = i * scale_lines / rows; line < (i + 1) * scale_lines / rows; ++line)
      __builtin_prefetch(a.next_scales + line * 64, 0, 2);
  }
};

template <int R, class Format>
static inline void dot_strips(const Format all, const DotArgs& a, int groups) {
  const Strips strips(a, R);
  for (int i = 0; i < strips.rows; ++i) {
    strips.ask_scales(i);
    dot_tokens<R>(every(all, i, strips.rows), groups, a.x, a.tokens, a.y + i, a.y_stride, strips.rows,
                  strips.later<Format>(i));
  }
  for (int r = strips.rows * R; r < a.rows; ++r)
    dot_tokens<1>(advance(all, r), groups, a.x, a.tokens, a.y + r, a.y_stride, 1, nullptr);
}

// ---- panels: many tokens -----------------------------------------------------------------------------------
// The same sums with rows in the lanes: of some rows and of all tokens, what belongs to one lane of dot_tile lies together,
// (lane, step along k, rows or tokens). So a chain of one lane is a plain product of matrices, without sums across a
// register, and its part of the weights stays in L1 while all tokens stream past. The chains meet in the order of sum().

constexpr int kPanelRows = kPanelRegisters * kLanes;
static_assert(kPanelRows <= kMostPanelRows && kTileColumns % kPanelTile == 0 && kPanelTokens % kTileColumns == 0);

// Steps along k of one lane.
template <class Format>
constexpr int panel_steps(int groups) {
  return groups * Format::kGroupChunks * Format::kFetched;
}
// From lane to lane of a weight panel: not a power of two, or all lanes would fall into one set of the cache.
static constexpr size_t panel_stride(int steps) { return (size_t)steps * kPanelRows + kPanelPad; }

// The lanes of kLanes rows, from `all` on; where there are fewer, the last one stands in for the rest.
template <class Format>
static inline void fill_panel(const Format& all, int rows, int groups, float* panel) {
  const size_t stride = panel_stride(panel_steps<Format>(groups));
  for (int g = 0; g < groups; ++g) {
    typename Format::Group scale[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      const int row = r < rows ? r : rows - 1;
      scale[r] = all.group(row, g);
      if (Format::kGroupBytes >= 64 || g % (64 / Format::kGroupBytes) == 0)
        __builtin_prefetch(all.weight + row * all.row_bytes + (size_t)g * Format::kGroupBytes + Format::kAheadBytes);
    }
    for (int c = 0; c < Format::kGroupChunks; ++c) {
      V turned[Format::kFetched][kLanes];
      for (int r = 0; r < kLanes; ++r) {
        typename Format::W w[Format::kFetched];
        all.fetch(r < rows ? r : rows - 1, g, c, scale[r], w);
        for (int i = 0; i < Format::kFetched; ++i) turned[i][r] = Format::lanes(w[i]);
      }
      for (int i = 0; i < Format::kFetched; ++i, panel += kPanelRows) {
        transpose(turned[i]);
        for (int l = 0; l < kLanes; ++l) store(panel + l * stride, turned[i][l]);
      }
    }
  }
}

// `w` and `x` of one lane: its chains of kPanelRows rows and T tokens.
template <int T, class Format>
static inline void panel_tile(const float* w, const float* x, int steps, V (&chain)[kPanelRegisters][T]) {
  using W = typename Format::W;
  for (int r = 0; r < kPanelRegisters; ++r)
    for (int t = 0; t < T; ++t) chain[r][t] = zero();
  for (int s = 0; s < steps; ++s, w += kPanelRows, x += kTileColumns) {
    W row[kPanelRegisters];
    for (int r = 0; r < kPanelRegisters; ++r) row[r] = Format::load_w(w + r * kLanes);
    for (int t = 0; t < T; ++t) {
      const W xt = Format::broadcast_w(x + t);
      for (int r = 0; r < kPanelRegisters; ++r) chain[r][t] = fma(row[r], xt, chain[r][t]);
    }
  }
}

// Adds the chains of lane number n in the order of sum(), as a counter carries: `waiting` holds the sums of 1, 2, 4, ...
// lanes, `level` registers apart. The last one's are written to y.
template <int T>
static inline void add_lane(int n, V (&chain)[kPanelRegisters][T], float* waiting, size_t level, int rows, int tokens, float* y,
                            size_t y_stride) {
  for (; n & 1; n >>= 1, waiting += level)
    for (int r = 0; r < kPanelRegisters; ++r)
      for (int t = 0; t < T; ++t) chain[r][t] = add(load(waiting + (r * T + t) * kLanes), chain[r][t]);
  if (y) {
    for (int r = 0; r < kPanelRegisters && r * kLanes < rows; ++r)
      for (int t = 0; t < T && t < tokens; ++t) store_some(y + t * y_stride + r * kLanes, rows - r * kLanes, chain[r][t]);
  } else {
    for (int r = 0; r < kPanelRegisters; ++r)
      for (int t = 0; t < T; ++t) store(waiting + (r * T + t) * kLanes, chain[r][t]);
  }
}

template <class Format>
static inline void dot_panels(const Format& all, const DotArgs& a, int groups) {
  const int steps = panel_steps<Format>(groups);
  const size_t stride = panel_stride(steps), column_floats = (size_t)steps * kLanes * kTileColumns;
  constexpr size_t kTileFloats = (size_t)kPanelRows * kPanelTile, kLevel = (size_t)kPanelRows * kPanelTokens;
  float* waiting = a.scratch;
  float* panel = waiting + kPanelLevels * kLevel;
  for (int row = 0; row < a.rows; row += kPanelRows) {
    const int rows = a.rows - row < kPanelRows ? a.rows - row : kPanelRows;
    for (int r = 0; r < rows; r += kLanes) fill_panel(advance(all, row + r), rows - r, groups, panel + r);
    for (int from = 0; from < a.tokens; from += kPanelTokens)
      for (int n = 0; n < kLanes; ++n) {
        int lane = 0;  // the lanes in the order in which sum() folds them
        for (int bit = 1; bit < kLanes; bit *= 2) lane = 2 * lane + (n & bit ? 1 : 0);
        const int end = a.tokens - from < kPanelTokens ? a.tokens : from + kPanelTokens;
        for (int t = from; t < end; t += kPanelTile) {
          const float* x = (const float*)a.panel + t / kTileColumns * column_floats + (size_t)lane * steps * kTileColumns + t % kTileColumns;
          float* const own = waiting + (t - from) / kPanelTile * kTileFloats;
          float* const y = n + 1 < kLanes ? nullptr : a.y + t * a.y_stride + row;
          const auto tile = [&](auto count) {
            constexpr int T = decltype(count)::value;
            V chain[kPanelRegisters][T];
            panel_tile<T, Format>(panel + lane * stride, x, steps, chain);
            add_lane(n, chain, own, kLevel, rows, a.tokens - t, y, a.y_stride);
          };
          if (a.tokens - t > kPanelTile / 2)
            tile(Count<kPanelTile>{});
          else
            tile(Count<kPanelTile / 2>{});
        }
      }
  }
}

// Up to kTileColumns packed rows, a token each, as dot_panels reads them.
template <class Format>
static inline void make_columns(const float* const* x, int tokens, int groups, float* to) {
  const int steps = panel_steps<Format>(groups);
  for (int first = 0; first < kTileColumns; first += kLanes)
    for (int g = 0, s = 0; g < groups; ++g)
      for (int c = 0; c < Format::kGroupChunks; ++c)
        for (int i = 0; i < Format::kFetched; ++i, ++s) {
          V r[kLanes];
          for (int t = 0; t < kLanes; ++t) r[t] = first + t < tokens ? load(x[first + t] + Format::place(g, c, i)) : zero();
          transpose(r);
          for (int l = 0; l < kLanes; ++l) store(to + ((size_t)l * steps + s) * kTileColumns + first, r[l]);
        }
}
static void columns(const float* const* x, int tokens, int k, bool, void* to) {
  make_columns<FloatFormat>(x, tokens, (int)round_up(k, kPackGroup) / kPackGroup, (float*)to);
}

// ---- whole products ----------------------------------------------------------------------------------------

template <class Format>
static inline void dot(const Format all, const DotArgs& a) {
  static_assert(Format::kDirectTokens + 1 >= kPanelFrom);
  const int groups = (int)round_up(a.k, kPackGroup) / kPackGroup;
  if (a.tokens <= kTileSums / 4) return dot_strips<4>(all, a, groups);  // more rows are slower
  if (Format::kFetched == 1 && a.tokens <= kTileSums / 3) return dot_strips<3>(all, a, groups);
  if (a.tokens > Format::kDirectTokens) return dot_panels(all, a, groups);
  dot_strips<kTileSums / 6>(all, a, groups);
}

// K that is no multiple of 32 (small models only): rows go through a zero-padded copy, one by one.
template <class Format>
static void dot_bf16_ragged(const DotArgs& a) {
  const int groups = (a.k + kPackGroup - 1) / kPackGroup;
  uint16_t* padded = (uint16_t*)a.scratch;
  for (int i = a.k; i < groups * kPackGroup; ++i) padded[i] = 0;
  for (int r = 0; r < a.rows; ++r) {
    __builtin_memcpy(padded, (const uint8_t*)a.weight + r * a.row_bytes, a.k * sizeof(uint16_t));
    dot_tokens<1>(Format{{(const uint8_t*)padded, nullptr, 0, 0}}, groups, a.x, a.tokens, a.y + r, a.y_stride, 1, nullptr);
  }
}

static void dot_bf16(const DotArgs& a) {
  if (a.k % kPackGroup != 0) return dot_bf16_ragged<Bf16Rows>(a);
  dot(rows_of<Bf16Rows>(a), a);
}
static void dot_mxfp4(const DotArgs& a) { dot(rows_of<Mxfp4Rows>(a), a); }
static void dot_int8(const DotArgs& a) { dot(rows_of<Int8Rows>(a), a); }

// ---- weights stored (k, rows) ------------------------------------------------------------------------------

template <int N, int T>  // N registers of columns, T tokens
static inline void dot_columns(const uint8_t* weight, const DotArgs& a, const float* const* x, float* y) {
  V acc[T][N];
  for (int t = 0; t < T; ++t)
    for (int n = 0; n < N; ++n) acc[t][n] = zero();
  for (int k = 0; k < a.k; ++k) {
    const uint16_t* row = (const uint16_t*)(weight + k * a.row_bytes);
    const int packed = packed_index(k);
    V w[N];
    for (int n = 0; n < N; ++n) w[n] = load_bf16(row + n * kLanes);
    for (int t = 0; t < T; ++t) {
      const V xt = set1(x[t][packed]);
      for (int n = 0; n < N; ++n) acc[t][n] = fma(w[n], xt, acc[t][n]);
    }
  }
  for (int t = 0; t < T; ++t)
    for (int n = 0; n < N; ++n) store(y + t * a.y_stride + n * kLanes, acc[t][n]);
}

template <int T>
static inline void dot_all_columns(const DotArgs& a, const float* const* x, float* y) {
  constexpr int kWide = T == 1 ? 2 * kTileKeys : kTileKeys;
  int c = 0;
  for (; c + kWide * kLanes <= a.rows; c += kWide * kLanes)
    dot_columns<kWide, T>((const uint8_t*)a.weight + c * sizeof(uint16_t), a, x, y + c);
  for (; c < a.rows; c += kLanes) dot_columns<1, T>((const uint8_t*)a.weight + c * sizeof(uint16_t), a, x, y + c);
}

static void dot_bf16_transposed(const DotArgs& a) {
  const float* const* x = a.x;
  float* y = a.y;
  int tokens = a.tokens;
  constexpr int kTokens = 6;
  for (; tokens >= kTokens; tokens -= kTokens, x += kTokens, y += kTokens * a.y_stride) dot_all_columns<kTokens>(a, x, y);
  for (; tokens > 0; --tokens, ++x, y += a.y_stride) dot_all_columns<1>(a, x, y);
}
