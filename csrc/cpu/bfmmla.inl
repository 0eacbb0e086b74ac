// Products of bf16 by BFMMLA, after kernels.inl in the namespace of an ISA file.
//
// The instruction multiplies two rows of four weights with two rows of four activations and adds to a 2 x 2 of float32,
// in two steps of two products each. It rounds to odd, whatever the rounding mode, and takes subnormals for 0. So these
// are sums of their own: an element is four chains over k, of the groups of four k in turn, and one tree. One token goes
// the same way as many, with its row given twice: the chains know nothing of what is computed beside them.
//
// Activations are packed as bf16 terms, in groups of 32 in their order: one term where they are rounded, else three that
// add up to the float, the smallest first. Weights are exact in bf16.

constexpr int kBfChains = 4;

// The bytes of bf16 E2M1 values times each scale, for two look-ups.
struct Mxfp4Bytes {
  alignas(16) uint8_t low[256][16];
  alignas(16) uint8_t high[256][16];
  constexpr Mxfp4Bytes() : low(), high() {
    constexpr Mxfp4Table<16> values;
    for (int scale = 0; scale < 256; ++scale)
      for (int code = 0; code < 16; ++code) {
        const uint32_t bits = __builtin_bit_cast(uint32_t, values.value[scale][code]);
        low[scale][code] = (uint8_t)(bits >> 16);
        high[scale][code] = (uint8_t)(bits >> 24);
      }
  }
};
static constexpr Mxfp4Bytes kMxfp4Bytes;

static inline uint8x16_t load_bytes(const void* p) { return vld1q_u8((const uint8_t*)p); }

// fetch(rows, row, group, w): 32 weights in their order.
static inline void fetch(const Bf16Rows& rows, int row, int group, uint8x16_t w[4]) {
  const uint8_t* p = rows.weight + row * rows.row_bytes + (size_t)group * Bf16Rows::kGroupBytes;
  for (int i = 0; i < 4; ++i) w[i] = load_bytes(p + 16 * i);
}
static inline void fetch(const Mxfp4Rows& rows, int row, int group, uint8x16_t w[4]) {
  const uint8x16_t bytes = load_bytes(rows.weight + row * rows.row_bytes + (size_t)group * Mxfp4Rows::kGroupBytes);
  const uint8x16_t even = vandq_u8(bytes, vdupq_n_u8(15)), odd = vshrq_n_u8(bytes, 4);
  const uint8x16_t codes[2] = {vzip1q_u8(even, odd), vzip2q_u8(even, odd)};
  const uint8_t scale = rows.scales[row * rows.scale_bytes + group];
  const uint8x16_t low = load_bytes(kMxfp4Bytes.low[scale]), high = load_bytes(kMxfp4Bytes.high[scale]);
  for (int i = 0; i < 2; ++i) {
    const uint8x16_t l = vqtbl1q_u8(low, codes[i]), h = vqtbl1q_u8(high, codes[i]);
    w[2 * i] = vzip1q_u8(l, h);
    w[2 * i + 1] = vzip2q_u8(l, h);
  }
}
static inline void fetch(const Int8Rows& rows, int row, int group, uint8x16_t w[4]) {
  const auto scale = rows.group(row, group);
  for (int i = 0; i < 4; ++i) {
    V places[2];
    rows.fetch(row, group, i, scale, places);  // whose low halves are 0
    w[i] = vreinterpretq_u8_u32(vsriq_n_u32((uint32x4_t)places[1], (uint32x4_t)places[0], 16));
  }
}

// Two rows of 32 numbers side by side, four of each in a register.
static inline void interleave(const uint8x16_t first[4], const uint8x16_t second[4], bfloat16x8_t both[8]) {
  for (int i = 0; i < 4; ++i) {
    const uint64x2_t a = vreinterpretq_u64_u8(first[i]), b = vreinterpretq_u64_u8(second[i]);
    both[2 * i] = vreinterpretq_bf16_u64(vtrn1q_u64(a, b));
    both[2 * i + 1] = vreinterpretq_bf16_u64(vtrn2q_u64(a, b));
  }
}

// Up to 2 P rows and 2 Q tokens; where there are fewer, the last one stands in for those that are missing.
template <int P, int Q, class Format>
static inline void bf_tile(const Format& all, int rows, const DotArgs& a, int groups, const float* const* x, int tokens,
                           float* y) {
  float32x4_t acc[P][Q][kBfChains];
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < Q; ++q)
      for (int c = 0; c < kBfChains; ++c) acc[p][q][c] = vdupq_n_f32(0);
  const int terms = a.exact ? 3 : 1;
  for (int g = 0; g < groups; ++g) {
    bfloat16x8_t w[P][8];
    for (int p = 0; p < P; ++p) {
      uint8x16_t row[2][4];
      for (int i = 0; i < 2; ++i) fetch(all, 2 * p + i < rows ? 2 * p + i : rows - 1, g, row[i]);
      interleave(row[0], row[1], w[p]);
    }
    for (int term = 0; term < terms; ++term)
      for (int q = 0; q < Q; ++q) {
        uint8x16_t token[2][4];
        for (int i = 0; i < 2; ++i) {
          const uint8_t* from = (const uint8_t*)x[2 * q + i < tokens ? 2 * q + i : tokens - 1];
          for (int j = 0; j < 4; ++j) token[i][j] = load_bytes(from + ((size_t)g * terms + term) * 64 + 16 * j);
        }
        bfloat16x8_t xs[8];
        interleave(token[0], token[1], xs);
        for (int step = 0; step < 8; ++step)
          for (int p = 0; p < P; ++p)
            acc[p][q][step % kBfChains] = vbfmmlaq_f32(acc[p][q][step % kBfChains], w[p][step], xs[step]);
      }
  }
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < Q; ++q) {
      float sums[4];
      vst1q_f32(sums, vaddq_f32(vaddq_f32(acc[p][q][0], acc[p][q][1]), vaddq_f32(acc[p][q][2], acc[p][q][3])));
      for (int i = 0; i < 4; ++i) {
        const int row = 2 * p + i / 2, token = 2 * q + i % 2;
        if (row < rows && token < tokens) y[token * a.y_stride + row] = sums[i];
      }
    }
}

template <class Format>
static inline void bf_dot(const Format& all, const DotArgs& a, int groups) {
  for (int r = 0; r < a.rows; r += 4) {
    const Format rows = advance(all, r);
    const int count = a.rows - r < 4 ? a.rows - r : 4;
    int t = 0;
    for (; a.tokens - t > 2; t += 4) bf_tile<2, 2>(rows, count, a, groups, a.x + t, a.tokens - t, a.y + t * a.y_stride + r);
    if (t < a.tokens) bf_tile<2, 1>(rows, count, a, groups, a.x + t, a.tokens - t, a.y + t * a.y_stride + r);
  }
}

static void bf_dot_bf16(const DotArgs& a) {
  const int groups = (int)round_up(a.k, kPackGroup) / kPackGroup;
  if (a.k % kPackGroup == 0) return bf_dot(rows_of<Bf16Rows>(a), a, groups);
  uint16_t* padded = (uint16_t*)a.scratch;  // small models only
  for (int r = 0; r < a.rows; ++r) {
    for (int i = a.k; i < groups * kPackGroup; ++i) padded[i] = 0;
    __builtin_memcpy(padded, (const uint8_t*)a.weight + r * a.row_bytes, a.k * sizeof(uint16_t));
    DotArgs one = a;
    one.rows = 1;
    one.y = a.y + r;
    bf_dot(Bf16Rows{{(const uint8_t*)padded, nullptr, 0, 0}}, one, groups);
  }
}
static void bf_dot_mxfp4(const DotArgs& a) { bf_dot(rows_of<Mxfp4Rows>(a), a, a.k / kPackGroup); }
static void bf_dot_int8(const DotArgs& a) {
  bf_dot(rows_of<Int8Rows>(a), a, (int)round_up(a.k, kPackGroup) / kPackGroup);
}

// Weights (k, rows) would have to be transposed for the instruction: these are float32 products of the sum of the terms,
// which is the activation again.
static void bf_dot_bf16_transposed(const DotArgs& a) {
  const int terms = a.exact ? 3 : 1;
  for (int t = 0; t < a.tokens; ++t) {
    const uint16_t* from = (const uint16_t*)a.x[t];
    for (int k = 0; k < a.k; ++k) {
      const uint16_t* first = from + (size_t)k / kPackGroup * kPackGroup * terms + k % kPackGroup;
      float sum = bf16(first[0]);
      for (int term = 1; term < terms; ++term) sum = sum + bf16(first[term * kPackGroup]);
      a.scratch[packed_index(k)] = sum;
    }
    const float* x = a.scratch;
    DotArgs one = a;
    one.x = &x;
    one.tokens = 1;
    one.y = a.y + t * a.y_stride;
    dot_bf16_transposed(one);
  }
}

// Four activations at place `at` of a packed group.
static inline void bf_store(V y, bool round, uint16_t* group, int at) {
  y = ((V)((U)y & 0x7fffffffu) < 0x1p-126f) ? mul(y, zero()) : y;  // as the products would take it
  const auto put = [&](V term, int place) {
    vst1_u16(group + place * kPackGroup + at, vshrn_n_u32((uint32x4_t)term, 16));
  };
  if (round) return put(round_bf16(y), 0);
  for (int term = 2; term >= 0; --term) {
    const V upper = (V)((U)y & 0xffff0000u);  // cut, not rounded: the largest float does not become infinite
    put(upper, term);
    y = sub(y, upper);
  }
}

static void bf_pack(const float* x, const float* gain, float scale, int n, bool round, float* packed) {
  uint16_t* group = (uint16_t*)packed;
  const int step = (round ? 1 : 3) * kPackGroup;
  int i = 0;
  for (; i + kPackGroup <= n; i += kPackGroup, group += step)
    for (int at = 0; at < kPackGroup; at += kLanes)
      bf_store(scaled(x + i + at, gain ? gain + i + at : gain, scale), round, group, at);
  if (i == n) return;
  float rest[kPackGroup] = {};
  for (int j = 0; i < n; ++i, ++j) rest[j] = gain ? x[i] * scale * gain[i] : x[i] * scale;
  for (int at = 0; at < kPackGroup; at += kLanes) bf_store(load(rest + at), round, group, at);
}

static void bf_swiglu_pack(const float* u, const uint16_t* bias, int n, float limit, float alpha, bool round,
                           float* packed) {
  uint16_t* group = (uint16_t*)packed;
  for (int i = 0; i < n; i += kPackGroup, group += (round ? 1 : 3) * kPackGroup)
    for (int at = 0; at < kPackGroup; at += kLanes)
      bf_store(swiglu(u + 2 * (i + at), bias + 2 * (i + at), set1(limit), set1(alpha)), round, group, at);
}
