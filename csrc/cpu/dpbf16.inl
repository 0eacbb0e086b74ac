// Products of bf16 by VDPBF16PS, where activations are rounded to bf16; `exact` stays with float32.
//
// The instruction adds to each float32 lane the products of two pairs of bf16, the second first, each addition rounded to
// nearest; subnormals count as 0. So a lane is a chain over every 16th pair of k, and an element is 16 chains and one
// tree, as it is of floats, with half the instructions.
//
// Included by an ISA file after kernels.inl and bf16_terms.inl, in the same namespace; see there for what may be used.

struct Words {  // 32 bf16
  __m512i bits;
};
static inline V fma(Words w, Words x, V acc) { return _mm512_dpbf16_ps(acc, (__m512bh)w.bits, (__m512bh)x.bits); }

// Formats of which a register holds a whole group, and meets one of activations packed as one bf16 term.
struct WordFormat : Rows {
  using W = Words;
  static constexpr int kFetched = 1, kGroupChunks = 1, kAheadBytes = 4096;
  static constexpr int place(int group, int, int) { return group * (kPackGroup / 2); }
  static Words load_w(const float* p) { return {_mm512_loadu_si512(p)}; }
  static Words broadcast_w(const float* p) { return {_mm512_castps_si512(set1(*p))}; }
  static V lanes(Words w) { return _mm512_castsi512_ps(w.bits); }
  struct Group {};
  Group group(int, int) const { return {}; }
  const uint8_t* at(int row, int offset) const { return weight + row * row_bytes + offset; }
  uint8_t scale(int row, int group) const { return scales[row * scale_bytes + group]; }
};

struct Bf16Words : WordFormat {
  static constexpr int kGroupBytes = 2 * kPackGroup;
  static constexpr int kDirectTokens = 24, kAheadBytes = 2048;
  void fetch(int row, int group, int, Group, Words (&w)[1]) const {
    w[0] = {_mm512_loadu_si512(at(row, group * kGroupBytes))};
    asm("" : "+v"(w[0].bits));  // or GCC reads it again for every token, and in the file each read takes two lines
  }
};
struct Mxfp4Words : WordFormat {
  static constexpr int kGroupBytes = kPackGroup / 2, kDirectTokens = 48;
  void fetch(int row, int group, int, Group, Words (&w)[1]) const {
    w[0] = {mxfp4_bf16(at(row, group * kGroupBytes), scale(row, group))};
  }
};
struct Int8Words : WordFormat {
  static constexpr int kGroupBytes = kPackGroup, kDirectTokens = 24;
  void fetch(int row, int group, int, Group, Words (&w)[1]) const {
    w[0] = {int8_bf16((const int8_t*)at(row, group * kGroupBytes), scale(row, group))};
  }
};

static void dp_dot_bf16(const DotArgs& a) {
  if (a.exact) return dot_bf16(a);
  if (a.k % kPackGroup != 0) return dot_bf16_ragged<Bf16Words>(a);
  dot(rows_of<Bf16Words>(a), a);
}
static void dp_dot_mxfp4(const DotArgs& a) { a.exact ? dot_mxfp4(a) : dot(rows_of<Mxfp4Words>(a), a); }
static void dp_dot_int8(const DotArgs& a) { a.exact ? dot_int8(a) : dot(rows_of<Int8Words>(a), a); }

static void dp_columns(const float* const* x, int tokens, int k, bool exact, void* to) {
  if (exact) return columns(x, tokens, k, exact, to);
  make_columns<WordFormat>(x, tokens, (int)round_up(k, kPackGroup) / kPackGroup, (float*)to);
}

// ---- weights stored (k, rows) ------------------------------------------------------------------------------
// Two rows of k interleaved are pairs: of columns 0-3, 8-11, ... in one register and of 4-7, 12-15, ... in the other.

template <int T>
static inline void dp_transposed(const uint8_t* weight, const DotArgs& a, const float* const* x, float* y) {
  V low[T], high[T];
  for (int t = 0; t < T; ++t) low[t] = high[t] = zero();
  for (int k = 0; k < a.k; k += 2) {
    const __m512i even = _mm512_loadu_si512(weight + k * a.row_bytes);
    const __m512i odd = k + 1 < a.k ? _mm512_loadu_si512(weight + (k + 1) * a.row_bytes) : _mm512_setzero_si512();
    const Words first = {_mm512_unpacklo_epi16(even, odd)}, second = {_mm512_unpackhi_epi16(even, odd)};
    for (int t = 0; t < T; ++t) {
      const Words xt = WordFormat::broadcast_w(x[t] + k / 2);
      low[t] = fma(first, xt, low[t]);
      high[t] = fma(second, xt, high[t]);
    }
  }
  const __m512i lower = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i upper = _mm512_add_epi32(lower, _mm512_set1_epi32(8));
  for (int t = 0; t < T; ++t) {
    store(y + t * a.y_stride, _mm512_permutex2var_ps(low[t], lower, high[t]));
    store(y + t * a.y_stride + kLanes, _mm512_permutex2var_ps(low[t], upper, high[t]));
  }
}

static void dp_dot_bf16_transposed(const DotArgs& a) {
  if (a.exact) return dot_bf16_transposed(a);
  constexpr int kTokens = 12;
  for (int c = 0; c < a.rows; c += 2 * kLanes) {
    const uint8_t* weight = (const uint8_t*)a.weight + c * sizeof(uint16_t);
    int t = 0;
    for (; t + kTokens <= a.tokens; t += kTokens) dp_transposed<kTokens>(weight, a, a.x + t, a.y + t * a.y_stride + c);
    for (; t + 4 <= a.tokens; t += 4) dp_transposed<4>(weight, a, a.x + t, a.y + t * a.y_stride + c);
    for (; t < a.tokens; ++t) dp_transposed<1>(weight, a, a.x + t, a.y + t * a.y_stride + c);
  }
}

// ---- attention ---------------------------------------------------------------------------------------------
// Of each row two chains in every column, over every other pair of its bf16; then both are added.

struct ColumnUnit {
  ColumnUnit() {}
};
constexpr bool kPairedColumns = true;

// Eight rows and 16 columns at a time.
static inline void multiply_all_columns(const uint8_t* a, size_t row_bytes, int rows, const uint8_t* columns, int steps,
                                        float* out, const uint8_t* later) {
  constexpr int kRows = 8;
  for (int row = 0; row < rows; row += kRows, a += kRows * row_bytes) {
    V sum[2][kRows];  // of each chain
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[0][r] = sum[1][r] = zero();
    const float* x = (const float*)columns;
    for (size_t at = 0; at < (size_t)steps * 64; at += 8, later += 64) {
      __builtin_prefetch(later);
#pragma GCC unroll 2
      for (int chain = 0; chain < 2; ++chain, x += kLanes) {
        const Words pair = WordFormat::load_w(x);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
          sum[chain][r] = fma(WordFormat::broadcast_w((const float*)(a + r * row_bytes + at) + chain), pair, sum[chain][r]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r, out += kLanes) store(out, add(sum[0][r], sum[1][r]));
  }
}

// Sixteen rows and eight paired columns at a time: an even lane has the first chain, its neighbour the second.
static inline void multiply_paired_columns(const uint8_t* a, size_t row_bytes, int rows, const uint8_t* columns, int steps,
                                           float* out, const uint8_t* later) {
  constexpr int kRows = 16;
  for (int row = 0; row < rows; row += kRows, a += kRows * row_bytes) {
    V sum[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sum[r] = zero();
    const float* x = (const float*)columns;
    for (size_t at = 0; at < (size_t)steps * 64; at += 8, x += kLanes, later += 128) {
      __builtin_prefetch(later);
      __builtin_prefetch(later + 64);
      const Words both = WordFormat::load_w(x);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        long long pairs;
        __builtin_memcpy(&pairs, a + r * row_bytes + at, sizeof pairs);
        sum[r] = fma(Words{_mm512_set1_epi64(pairs)}, both, sum[r]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) sum[r] = add(sum[r], other_of_two(sum[r]));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r += 4, out += 2 * kLanes) {
      store(out, _mm512_mask_mov_ps(sum[r], 0xaaaa, sum[r + 2]));
      store(out + kLanes, _mm512_mask_mov_ps(sum[r + 1], 0xaaaa, sum[r + 3]));
    }
  }
}

template <bool paired>
static inline void multiply_columns(const uint8_t* a, size_t row_bytes, int rows, const uint8_t* columns, int steps, float* out,
                                    const uint8_t* later) {
  paired ? multiply_paired_columns(a, row_bytes, rows, columns, steps, out, later)
         : multiply_all_columns(a, row_bytes, rows, columns, steps, out, later);
}

// ---- activations, ceiling ----------------------------------------------------------------------------------

static void dp_pack(const float* x, const float* gain, float scale, int n, bool round, float* packed) {
  round ? terms_pack(x, gain, scale, n, round, packed) : pack(x, gain, scale, n, round, packed);
}
static void dp_swiglu_pack(const float* u, const uint16_t* bias, int n, float limit, float alpha, bool round, float* packed) {
  round ? terms_swiglu_pack(u, bias, n, limit, alpha, round, packed) : swiglu_pack(u, bias, n, limit, alpha, round, packed);
}

static float dp_multiply_add(long iterations, long* flops) {
  constexpr int kChains = 24;
  V acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = zero();
  const Words ones = {_mm512_set1_epi16(0x3f80)};
  for (long n = 0; n < iterations; ++n)
#pragma GCC unroll 32  // or GCC keeps the chains in memory, and measures its stores
    for (int i = 0; i < kChains; ++i) acc[i] = fma(ones, ones, acc[i]);
  *flops = iterations * kChains * 2 * kLanes * 2;
  V total = zero();
  for (int i = 0; i < kChains; ++i) total = add(total, acc[i]);
  return sum(total);
}
