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
constexpr int kTileTokens = 6;
constexpr int kPanelFrom = 9;  // tokens for which panels are made; see Format::kDirectTokens

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
  static constexpr int kFetched = 2, kGroupChunks = kChunks;
  static constexpr int kDirectTokens = 12;  // as many meet the weights as they come, more by way of a panel
  // Where in a packed row the activations are that a register meets.
  static constexpr int place(int group, int chunk, int i) { return group * kPackGroup + i * kHalf + chunk * kLanes; }
  static V load_w(const float* p) { return load(p); }
  static V broadcast_w(const float* p) { return set1(*p); }
  static V lanes(V w) { return w; }
};

struct Bf16Rows : FloatFormat {
  static constexpr int kGroupBytes = 2 * kPackGroup, kMostRows = 4;
  struct Group {};
  Group group(int, int) const { return {}; }
  void fetch(int row, int group, int chunk, Group, V (&w)[2]) const {
    const uint16_t* p = (const uint16_t*)(weight + row * row_bytes) + group * kPackGroup + chunk * 2 * kLanes;
    load_bf16_pairs(p, w[0], w[1]);
  }
};

struct Mxfp4Rows : FloatFormat {
  static constexpr int kGroupBytes = kPackGroup / 2, kMostRows = 4;  // more are slower
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
  static constexpr int kGroupBytes = kPackGroup, kMostRows = 4;
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

// How far before their turn weights are asked for, in every row of a tile.
constexpr int kAheadBytes = 2048;

// y[t * y_stride + r * y_rows] for R rows and T tokens. `ahead`: the weights come from memory, not from L1.
template <int R, int T, bool ahead, class Format>
static inline void dot_tile(const Format rows, int groups, const float* const* x, float* y, size_t y_stride, size_t y_rows) {
  using W = typename Format::W;
  V acc[R][T];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) acc[r][t] = zero();
  for (int g = 0; g < groups; ++g) {
    if (ahead && (Format::kGroupBytes >= 64 || g % (64 / Format::kGroupBytes) == 0))
      for (int r = 0; r < R; ++r)
        __builtin_prefetch(rows.weight + r * rows.row_bytes + (size_t)g * Format::kGroupBytes + kAheadBytes);
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

// The rows of a tile of T tokens: as many as there are registers for their sums.
template <class Format, int T>
constexpr int tile_rows() {
  int rows = Format::kMostRows;
  while (rows > 1 && rows * T > kTileSums) rows /= 2;
  return rows;
}

// R rows meet all tokens tile by tile; from the second tile on their weights are in L1.
template <int R, bool ahead, class Format>
static inline void dot_tokens(const Format rows, int groups, const float* const* x, int tokens, float* y, size_t y_stride,
                              size_t y_rows) {
  if (tokens > kTileTokens) {
    dot_tile<R, kTileTokens, ahead>(rows, groups, x, y, y_stride, y_rows);
    return dot_tokens<R, false>(rows, groups, x + kTileTokens, tokens - kTileTokens, y + kTileTokens * y_stride, y_stride, y_rows);
  }
  switch (tokens) {
    case 6: return dot_tile<R, 6, ahead>(rows, groups, x, y, y_stride, y_rows);
    case 5: return dot_tile<R, 5, ahead>(rows, groups, x, y, y_stride, y_rows);
    case 4: return dot_tile<R, 4, ahead>(rows, groups, x, y, y_stride, y_rows);
    case 3: return dot_tile<R, 3, ahead>(rows, groups, x, y, y_stride, y_rows);
    case 2: return dot_tile<R, 2, ahead>(rows, groups, x, y, y_stride, y_rows);
    case 1: return dot_tile<R, 1, ahead>(rows, groups, x, y, y_stride, y_rows);
  }
}

// R rows at a time, each of them out of another strip of consecutive rows: so the memory sees R long streams, which
// its own prefetch follows, instead of R new ones with every tile.
template <int R, class Format>
static inline void dot_strips(const Format all, int rows, int groups, const float* const* x, int tokens, float* y,
                              size_t y_stride) {
  const int strip = rows / R;
  for (int i = 0; i < strip; ++i)
    dot_tokens<R, true>(every(all, i, strip), groups, x, tokens, y + i, y_stride, strip);
  for (int r = strip * R; r < rows; ++r) dot_tokens<1, true>(advance(all, r), groups, x, tokens, y + r, y_stride, 1);
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
        __builtin_prefetch(all.weight + row * all.row_bytes + (size_t)g * Format::kGroupBytes + kAheadBytes);
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
  switch (a.tokens) {
    case 1: return dot_strips<tile_rows<Format, 1>()>(all, a.rows, groups, a.x, 1, a.y, a.y_stride);
    case 2: return dot_strips<tile_rows<Format, 2>()>(all, a.rows, groups, a.x, 2, a.y, a.y_stride);
    case 3: return dot_strips<tile_rows<Format, 3>()>(all, a.rows, groups, a.x, 3, a.y, a.y_stride);
  }
  if (a.tokens > Format::kDirectTokens) return dot_panels(all, a, groups);
  dot_strips<tile_rows<Format, kTileTokens>()>(all, a.rows, groups, a.x, a.tokens, a.y, a.y_stride);
}

// K that is no multiple of 32 (small models only): rows go through a zero-padded copy, one by one.
template <class Format>
static void dot_bf16_ragged(const DotArgs& a) {
  const int groups = (a.k + kPackGroup - 1) / kPackGroup;
  uint16_t* padded = (uint16_t*)a.scratch;
  for (int i = a.k; i < groups * kPackGroup; ++i) padded[i] = 0;
  for (int r = 0; r < a.rows; ++r) {
    __builtin_memcpy(padded, (const uint8_t*)a.weight + r * a.row_bytes, a.k * sizeof(uint16_t));
    dot_tokens<1, false>(Format{{(const uint8_t*)padded, nullptr, 0, 0}}, groups, a.x, a.tokens, a.y + r, a.y_stride, 1);
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
  for (; tokens >= kTileTokens; tokens -= kTileTokens, x += kTileTokens, y += kTileTokens * a.y_stride)
    dot_all_columns<kTileTokens>(a, x, y);
  for (; tokens > 0; --tokens, ++x, y += a.y_stride) dot_all_columns<1>(a, x, y);
}
