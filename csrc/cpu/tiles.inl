// Products on tile registers (AMX): y(row, token) = sum over k of w(row, k) x(token, k).
//
// A tile is 16 rows of 64 bytes. TDPBF16PS adds to C (16 rows, 16 columns of f32) the products of A (16 weight
// rows, 32 k) and B (16 pairs of k, 16 tokens): weights lie in A as they lie in memory, one MXFP4 group is one
// row of A, and tokens are columns of B. An element of C depends on its row and its column alone, so a token's
// result is the same in any company, a single one included (a tile of one column).
//
// Order of sums: tiles of 32 k ascending; within a tile the bf16 terms of the activations, smallest first; within
// an instruction the even and the odd places of k, 16 terms each, then both together, then onto C.
//
// Included by an ISA file after kernels.inl and bf16_terms.inl, in the same namespace; see there for what may be used.

constexpr int kTileRows16 = 16;
constexpr int kTileK = kPackGroup;

struct TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

// `columns` of C and B. Tiles 0-3 are C, 4 and 5 A, 6 and 7 B; with 16 columns all are alike. Loading it
// costs tens of cycles and clears all tiles; every product loads its own and releases it in the end, so that a thread
// switched away has no tiles to save.
static inline void configure_tiles(int columns) {
  TileConfig config = {};
  config.palette = 1;
  for (int i = 0; i < 8; ++i) {
    config.rows[i] = kTileRows16;
    config.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? 64 : 4 * columns);
  }
  asm volatile("" ::"r"(&config) : "memory");  // GCC 12 says that the load reads 8 bytes: the other stores could go
  _tile_loadconfig(&config);
}

// ---- weights as tiles of A ---------------------------------------------------------------------------------
// A weight format is a struct with `half`, which writes 8 rows of a tile (512 bytes); k beyond the matrix is 0, rows beyond
// it are anything. A tile's part of a row is kRowBytes long.

// Eight rows of a group each. Not inlined: between tile instructions GCC would keep its addresses on the stack.
[[gnu::noinline]] static void mxfp4_rows(const uint8_t* codes, size_t row_bytes, const uint8_t* scales, size_t scale_bytes,
                                         uint8_t* to) {
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r, codes += row_bytes, scales += scale_bytes)
    _mm512_store_si512(to + 64 * r, mxfp4_bf16(codes, *scales));
}

struct Mxfp4Tiles {
  static constexpr bool kInPlace = false;
  static constexpr int kRowBytes = kTileK / 2;
  const uint8_t* weight;
  const uint8_t* scales;
  size_t row_bytes, scale_bytes;
  int rows, k;

  void half(int first, int tile, uint8_t* to) const {
    const auto some = [&](int row, size_t step, uint8_t* to) {
      mxfp4_rows(at(row, tile), step * row_bytes, scales + row * scale_bytes + tile, step * scale_bytes, to);
    };
    if (first + 8 <= rows) return some(first, 1, to);
    alignas(64) uint8_t same[8 * 64];
    for (int r = 0; r < 8; ++r) {
      some(first + r < rows ? first + r : rows - 1, 0, same);
      _mm512_store_si512(to + 64 * r, _mm512_load_si512(same));
    }
  }
  const uint8_t* at(int row, int tile) const { return weight + row * row_bytes + tile * kRowBytes; }
};

struct Bf16Tiles {
  static constexpr bool kInPlace = true;  // whole tiles can be loaded where they lie
  static constexpr int kRowBytes = 2 * kTileK;
  const uint8_t* weight;
  size_t row_bytes;
  int rows, k;

  void half(int first, int tile, uint8_t* to) const {
    const int left = k - tile * kTileK;
    if (first + 8 <= rows && left >= kTileK) {
      const uint8_t* p = at(first, tile);
      for (int r = 0; r < 8; ++r, p += row_bytes) _mm512_store_si512(to + 64 * r, _mm512_loadu_si512(p));
      return;
    }
    const __mmask32 places = left >= kTileK ? 0xffffffffu : (1u << left) - 1;
    for (int r = 0; r < 8; ++r)
      _mm512_store_si512(to + 64 * r, first + r < rows
                                          ? _mm512_maskz_loadu_epi16(places, at(first + r, tile))
                                          : _mm512_setzero_si512());
  }
  const uint8_t* at(int row, int tile) const { return weight + row * row_bytes + tile * kRowBytes; }
};

// Groups of 32 bytes: the even places, then the odd ones.
struct Int8Tiles {
  static constexpr bool kInPlace = false;
  static constexpr int kRowBytes = kTileK;
  const uint8_t* weight;
  const uint8_t* scales;
  size_t row_bytes, scale_bytes;
  int rows, k;

  void half(int first, int tile, uint8_t* to) const {
    for (int r = 0; r < 8; ++r, to += 64) {
      const int row = first + r < rows ? first + r : rows - 1;
      _mm512_store_si512(to, int8_bf16((const int8_t*)at(row, tile), scales[row * scale_bytes + tile]));
    }
  }
  const uint8_t* at(int row, int tile) const { return weight + row * row_bytes + tile * kRowBytes; }
};

// Weights stored (k, rows), rows a multiple of 32.
struct Bf16ColumnTiles {
  static constexpr bool kInPlace = false;
  static constexpr int kRowBytes = 0;  // not row by row
  const uint8_t* weight;
  size_t row_bytes;  // from k to k
  int rows, k;

  void half(int first, int tile, uint8_t* to) const {
    for (int i = 0; i < 16; ++i) {
      const int at = tile * kTileK + 2 * i;
      for (int r = 0; r < 8; ++r) {
        const int row = first + r < rows ? first + r : 0;
        const uint16_t low = at < k ? *place(row, at) : 0, high = at + 1 < k ? *place(row, at + 1) : 0;
        ((uint32_t*)(to + 64 * r))[i] = low | (uint32_t)high << 16;
      }
    }
  }
  const uint16_t* place(int row, int at) const { return (const uint16_t*)(weight + at * row_bytes) + row; }
  const uint8_t* at(int row, int) const { return weight + row * 2; }
};

// ---- products ----------------------------------------------------------------------------------------------

// Tiles of B along k, `terms` of each.
struct Columns {
  const uint8_t* data;
  size_t stride;  // from pair to pair of k
  size_t step;    // from tile to tile
};

// The first n tiles of C, from and to memory.
template <int n>
static inline void load_sums(const uint8_t* c) {
  _tile_loadd(0, c, 64);
  if constexpr (n > 1) _tile_loadd(1, c + kTileBytes, 64);
  if constexpr (n > 2) _tile_loadd(2, c + 2 * kTileBytes, 64);
  if constexpr (n > 3) _tile_loadd(3, c + 3 * kTileBytes, 64);
}
template <int n>
static inline void store_sums(uint8_t* c, size_t stride = 64) {
  _tile_stored(0, c, stride);
  if constexpr (n > 1) _tile_stored(1, c + 16 * stride, stride);
  if constexpr (n > 2) _tile_stored(2, c + 32 * stride, stride);
  if constexpr (n > 3) _tile_stored(3, c + 48 * stride, stride);
}

// Asks for a tile's part of 8 rows, into L2; tiles that share a line share the work.
template <class Tiles>
static inline void fetch_rows(const uint8_t* weight, size_t row_bytes, int first, int tile) {
  if (Tiles::kRowBytes == 0) return;
  constexpr int share = Tiles::kRowBytes < 64 ? 64 / (Tiles::kRowBytes > 0 ? Tiles::kRowBytes : 64) : 1;
  const uint8_t* p = weight + (first + tile % share * (8 / share)) * row_bytes + tile / share * 64;
  for (int r = 0; r < 8 / share; ++r) __builtin_prefetch(p + r * row_bytes, 0, 2);
}

// Where the weights are that this thread wants after some rows.
template <class Tiles>
static inline const uint8_t* following(const Tiles& tiles, const DotArgs& a, int first, int block) {
  return first + block < a.rows ? tiles.at(first + block, 0) : (const uint8_t*)a.next;
}

// 64 rows of weights that can be loaded where they lie, and up to 16 tokens. The 16 rows of a tile are not neighbours
// but 4 apart, and four such tiles follow one another: so memory sees 16 streams that run on from row to row. They are
// asked for ahead of their turn; behind their end, at `next`.
template <class Tiles, class Store>
static inline void narrow_streams(const Tiles tiles, int first, int count, int terms, const Columns b, const uint8_t* next,
                                  const Store& store) {
  constexpr size_t kAhead = 512;
  const size_t length = 4 * tiles.row_bytes;  // from stream to stream
  const uint8_t* const weight = tiles.at(first, 0);
  for (int i = 0; i < 4; ++i) {
    _tile_zero(0);
    for (int tile = 0; tile < count; ++tile) {
      const size_t at = i * tiles.row_bytes + tile * Tiles::kRowBytes, then = at + kAhead;
      const uint8_t* p = then < length || !next ? weight + then : next + (then - length);
      for (int stream = 0; stream < 16; ++stream) __builtin_prefetch(p + stream * length);
      _tile_loadd(4, weight + at, length);
      for (int term = 0; term < terms; ++term) {
        _tile_loadd(6, b.data + (tile * terms + term) * b.step, b.stride);
        _tile_dpbf16ps(0, 4, 6);
      }
    }
    store(first + i);
  }
}

#define GPTOSS_NARROW_STEP(acc, a_tile, r)                              \
  if (tile + 1 < count) make(tile + 1, r);                              \
  _tile_loadd(a_tile, slot(tile, r), 64);                               \
  if (next) {                                                           \
    fetch_rows<Tiles>(next, tiles.row_bytes, 16 * r, tile);             \
    fetch_rows<Tiles>(next, tiles.row_bytes, 16 * r + 8, tile);         \
  }                                                                     \
  for (int term = 0; term < terms; ++term) {                            \
    _tile_loadd(6, b.data + (tile * terms + term) * b.step, b.stride);  \
    _tile_dpbf16ps(acc, a_tile, 6);                                     \
  }

// 64 rows and up to 16 tokens: tiles of A are made just before they are multiplied, for four sums, because one would
// have to wait for itself.
template <class Tiles>
static inline void narrow_rows(const Tiles tiles, int first, int count, int terms, const Columns b, uint8_t* ring,
                               const uint8_t* next) {
  constexpr int kSlots = 4;
  const auto slot = [&](int tile, int r) { return ring + (tile % kSlots * 4 + r) * kTileBytes; };
  const auto make = [&](int tile, int r) {
    tiles.half(first + 16 * r, tile, slot(tile, r));
    tiles.half(first + 16 * r + 8, tile, slot(tile, r) + kTileBytes / 2);
  };
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int r = 0; r < 4; ++r) make(0, r);
  for (int tile = 0; tile < count; ++tile) {
    GPTOSS_NARROW_STEP(0, 4, 0)
    GPTOSS_NARROW_STEP(1, 5, 1)
    GPTOSS_NARROW_STEP(2, 4, 2)
    GPTOSS_NARROW_STEP(3, 5, 3)
  }
}
#undef GPTOSS_NARROW_STEP

template <class Tiles>
static inline void narrow(const Tiles tiles, const DotArgs& a) {
  const int count = (a.k + kTileK - 1) / kTileK, terms = a.exact ? 3 : 1;
  const bool single = a.tokens == 1;
  const size_t stride = single ? 4 : 64;
  const Columns b = single ? Columns{(const uint8_t*)a.x[0], 4, 64} : Columns{(const uint8_t*)a.panel, 64, kTileBytes};
  uint8_t* ring = (uint8_t*)a.scratch;
  uint8_t* out = ring + 16 * kTileBytes;
  configure_tiles(single ? 1 : kTileColumns);
  for (int first = 0; first < a.rows; first += 64) {
    const uint8_t* next = following(tiles, a, first, 64);
    if (Tiles::kInPlace && first + 64 <= a.rows && a.k % kTileK == 0) {
      narrow_streams(tiles, first, count, terms, b, next, [&](int row) {  // and every fourth from there
        _tile_stored(0, out, stride);
        for (int r = 0; r < 16; ++r)
          for (int t = 0; t < a.tokens; ++t) a.y[t * a.y_stride + row + 4 * r] = ((const float*)(out + r * stride))[t];
      });
      continue;
    }
    narrow_rows(tiles, first, count, terms, b, ring, next);
    store_sums<4>(out, stride);
    const int rows = a.rows - first < 64 ? a.rows - first : 64;
    if (single)
      __builtin_memcpy(a.y + first, out, rows * sizeof(float));
    else
      for (int r = 0; r < rows; r += 16)
        store_columns(out + r * 64, rows - r, a.tokens, a.y + first + r, a.y_stride);
  }
  _tile_release();
}

// One tile along k of 16 rows and 16 G tokens. `between(0)`, `between(1)` is other work: given in portions it is done
// while the products wait for the tile unit, given at once it would be done after them.
template <int G, class Between>
static inline void wide_step(const uint8_t* a, const uint8_t* b, size_t b_group, int terms, const Between& between) {
  _tile_loadd(4, a, 64);
  for (int term = 0; term < terms; ++term, b += kTileBytes) {
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if (term == 0) between(0);
    if constexpr (G > 1) {
      _tile_loadd(7, b + b_group, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if (G == 2 && term == 0) between(1);
    if constexpr (G > 2) {
      _tile_loadd(6, b + 2 * b_group, 64);
      _tile_dpbf16ps(2, 4, 6);
    }
    if (G != 2 && term == 0) between(1);
    if constexpr (G > 3) {
      _tile_loadd(7, b + 3 * b_group, 64);
      _tile_dpbf16ps(3, 4, 7);
    }
  }
}

constexpr int kWideRows = 2;    // tiles of rows
constexpr int kWideBlock = 6;   // tiles of B along k: with 64 tokens, and C of 32 rows, they stay in L1

// 32 rows and 16 G tokens: blocks of k, so that the block's tiles of B are read from L2 for the first rows only. Tiles of
// A are made two steps ahead, in the order in which they are used.
template <int G, class Tiles>
static inline void wide_columns(const Tiles tiles, int row, const uint8_t* next, int count, int terms, const uint8_t* b,
                                size_t b_group, uint8_t* sums, uint8_t* ring) {
  constexpr int kAhead = 2, kSlots = 4;
  const int length = terms == 1 ? kWideBlock : kWideBlock / 3;
  struct {
    int tile, row, begin, end;
  } ahead = {0, 0, 0, length < count ? length : count};
  int made = 0;
  const auto half = [&](int part) {
    tiles.half(row + 16 * ahead.row + 8 * part, ahead.tile, ring + made % kSlots * kTileBytes + part * (kTileBytes / 2));
    if (next) fetch_rows<Tiles>(next, tiles.row_bytes, 16 * ahead.row + 8 * part, ahead.tile);
  };
  const auto advance = [&] {
    ++made;
    if (++ahead.tile < ahead.end) return;
    ahead.tile = ahead.begin;
    if (++ahead.row < kWideRows) return;
    ahead.row = 0;
    ahead.tile = ahead.begin = ahead.end;
    ahead.end = ahead.end + length < count ? ahead.end + length : count;
  };
  for (int i = 0; i < kAhead; ++i) {
    half(0);
    half(1);
    advance();
  }
  int used = 0;
  for (int begin = 0; begin < count; begin += length) {
    const int end = begin + length < count ? begin + length : count;
    for (int r = 0; r < kWideRows; ++r) {
      uint8_t* c = sums + 4 * r * kTileBytes;
      if (begin == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      } else {
        load_sums<G>(c);
      }
      for (int tile = begin; tile < end; ++tile, ++used) {
        const bool more = ahead.tile < count;
        wide_step<G>(ring + used % kSlots * kTileBytes, b + (size_t)tile * terms * kTileBytes, b_group, terms,
                     [&](int part) {
                       if (more) half(part);
                     });
        if (more) advance();
      }
      store_sums<G>(c);
    }
  }
}

// More than 16 tokens, 64 of them at a time. A is made anew for each of these: tiles that had to wait in L2 for the next
// tokens would cost more, because L2 has to bring those of B already.
template <class Tiles>
static inline void wide(const Tiles tiles, const DotArgs& a) {
  const int count = (a.k + kTileK - 1) / kTileK, terms = a.exact ? 3 : 1;
  const int groups = (a.tokens + kTileColumns - 1) / kTileColumns;
  const size_t group_bytes = (size_t)count * terms * kTileBytes;
  uint8_t* sums = (uint8_t*)a.scratch;
  uint8_t* ring = sums + 4 * kWideRows * kTileBytes;
  configure_tiles(kTileColumns);
  for (int row = 0; row < a.rows; row += 16 * kWideRows)
    for (int group = 0, some; group < groups; group += some) {
      const int left = groups - group;
      some = left == 5 || left == 6 ? 3 : left < 4 ? left : 4;
      const uint8_t* b = (const uint8_t*)a.panel + group * group_bytes;
      const uint8_t* next = group == 0 ? following(tiles, a, row, 16 * kWideRows) : nullptr;
      switch (some) {
        case 1: wide_columns<1>(tiles, row, next, count, terms, b, group_bytes, sums, ring); break;
        case 2: wide_columns<2>(tiles, row, next, count, terms, b, group_bytes, sums, ring); break;
        case 3: wide_columns<3>(tiles, row, next, count, terms, b, group_bytes, sums, ring); break;
        case 4: wide_columns<4>(tiles, row, next, count, terms, b, group_bytes, sums, ring); break;
      }
      for (int r = 0; r < kWideRows && row + 16 * r < a.rows; ++r)
        for (int g = 0; g < some; ++g) {
          const int t = (group + g) * kTileColumns;
          store_columns(sums + (4 * r + g) * kTileBytes, a.rows - row - 16 * r, a.tokens - t,
                     a.y + t * a.y_stride + row + 16 * r, a.y_stride);
        }
    }
  _tile_release();
}

template <class Tiles>
static inline void tile_dot(const Tiles tiles, const DotArgs& a) {
  if (a.tokens <= kTileColumns)
    narrow(tiles, a);
  else
    wide(tiles, a);
}

static void tile_dot_bf16(const DotArgs& a) {
  tile_dot(Bf16Tiles{(const uint8_t*)a.weight, a.row_bytes, a.rows, a.k}, a);
}
static void tile_dot_mxfp4(const DotArgs& a) {
  tile_dot(Mxfp4Tiles{(const uint8_t*)a.weight, a.scales, a.row_bytes, a.scale_bytes, a.rows, a.k}, a);
}
static void tile_dot_int8(const DotArgs& a) {
  tile_dot(Int8Tiles{(const uint8_t*)a.weight, a.scales, a.row_bytes, a.scale_bytes, a.rows, a.k}, a);
}
static void tile_dot_bf16_transposed(const DotArgs& a) {
  tile_dot(Bf16ColumnTiles{(const uint8_t*)a.weight, a.row_bytes, a.rows, a.k}, a);
}

// Packed rows side by side: every 16 dwords (pairs of k) of 16 tokens become the 16 rows of a tile of B.
static void tile_panel(const float* const* x, int tokens, int k, bool exact, void* to) {
  const int count = (k + kTileK - 1) / kTileK * (exact ? 3 : 1);
  for (int tile = 0; tile < count; ++tile) {
    V r[16];
    for (int t = 0; t < 16; ++t) r[t] = t < tokens ? load(x[t] + 16 * tile) : zero();
    transpose(r);
    for (int i = 0; i < 16; ++i) store((float*)to + (size_t)tile * kTileBytes / sizeof(float) + 16 * i, r[i]);
  }
}

// ---- ceiling -----------------------------------------------------------------------------------------------

static float tile_multiply_add(long iterations, long* flops) {
  alignas(64) uint8_t ones[kTileBytes];
  alignas(64) float c[256];
  for (int i = 0; i < kTileBytes / 2; ++i) ((uint16_t*)ones)[i] = 0x3f80;
  configure_tiles(kTileColumns);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, ones, 64);
  _tile_loadd(5, ones, 64);
  _tile_loadd(6, ones, 64);
  _tile_loadd(7, ones, 64);
  for (long i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, 64);
  _tile_release();
  *flops = iterations * 4 * 16 * 16 * 32 * 2;
  return c[0];
}

// ---- attention ---------------------------------------------------------------------------------------------

struct ColumnUnit {
  ColumnUnit() { configure_tiles(kTileColumns); }
  ~ColumnUnit() { _tile_release(); }
};
constexpr bool kPairedColumns = false;

// Four tiles of 16 rows at a time.
template <bool>
static inline void multiply_columns(const uint8_t* a, size_t row_bytes, int rows, const uint8_t* columns, int steps, float* out,
                                    const uint8_t* later) {
  for (int line = 0; line < rows * steps; ++line) __builtin_prefetch(later + line * 64, 0, 2);
  for (int row = 0; row < rows; row += 64, a += 64 * row_bytes, out += 64 * 16) {
    const int tiles = (rows - row) / 16;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; ++step) {
      const uint8_t* p = a + step * 64;
      _tile_loadd(6, columns + step * kTileBytes, 64);
      _tile_loadd(4, p, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      if (tiles > 1) {
        _tile_loadd(5, p + 16 * row_bytes, row_bytes);
        _tile_dpbf16ps(1, 5, 6);
      }
      if (tiles > 2) {
        _tile_loadd(4, p + 32 * row_bytes, row_bytes);
        _tile_dpbf16ps(2, 4, 6);
      }
      if (tiles > 3) {
        _tile_loadd(5, p + 48 * row_bytes, row_bytes);
        _tile_dpbf16ps(3, 5, 6);
      }
    }
    _tile_stored(0, out, 64);
    if (tiles > 1) _tile_stored(1, out + 16 * 16, 64);
    if (tiles > 2) _tile_stored(2, out + 32 * 16, 64);
    if (tiles > 3) _tile_stored(3, out + 48 * 16, 64);
  }
}
