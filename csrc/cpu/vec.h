// A register of float lanes: the only place where the kernels' bodies meet an instruction set.
//
// Included by each ISA file, which names its instruction set (GPTOSS_AVX2, ...), inside its own namespace. All is
// static, and nothing of the standard library may be used: an inline function compiled with wider flags can be the
// copy that the linker keeps for the baseline. Operations round once each; only fma() is fused, where the ISA is.
// max and min return their second operand where one is not a number.

#if defined(GPTOSS_AVX512)

using V = __m512;
constexpr int kLanes = 16;
static inline V zero() { return _mm512_setzero_ps(); }
static inline V set1(float x) { return _mm512_set1_ps(x); }
static inline V load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, V x) { _mm512_storeu_ps(p, x); }
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V div(V a, V b) { return _mm512_div_ps(a, b); }
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
static inline V min(V a, V b) { return _mm512_min_ps(a, b); }

static inline V bf16_from_bits(__m512i low_half) { return _mm512_castsi512_ps(_mm512_slli_epi32(low_half, 16)); }
static inline V load_bf16(const uint16_t* p) {
  return bf16_from_bits(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
}
static inline __m512i bf16_bits(V x) {  // round to nearest even, in the high half
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}
static inline V round_bf16(V x) {
  return _mm512_castsi512_ps(_mm512_and_si512(bf16_bits(x), _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
// 2 * kLanes consecutive bf16 -> those at even and at odd places.
static inline void load_bf16_pairs(const uint16_t* p, V& even, V& odd) {
  const __m512i both = _mm512_loadu_si512(p);
  even = bf16_from_bits(both);
  odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000))));
}
static inline void deinterleave(V a, V b, V& even, V& odd) {
  const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  even = _mm512_permutex2var_ps(a, index, b);
  odd = _mm512_permutex2var_ps(a, _mm512_add_epi32(index, _mm512_set1_epi32(1)), b);
}
// The sixteen E2M1 values times each scale: one look-up is then a whole dequantisation. Of the 16 KiB a model uses the
// lines of a dozen scales.
static constexpr Mxfp4Table<16> kMxfp4;
struct Mxfp4 {
  V values;
};
static inline Mxfp4 mxfp4(uint8_t scale) { return {_mm512_load_ps(kMxfp4.value[scale])}; }
// kLanes bytes -> the values of their low and of their high nibbles, and so on for kMxfp4Registers.
constexpr int kMxfp4Registers = 2;
static inline void load_mxfp4(const uint8_t* p, Mxfp4 m, V (&w)[kMxfp4Registers]) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  w[0] = _mm512_permutexvar_ps(bytes, m.values);  // looks at the low four bits only
  w[1] = _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), m.values);
}
// kLanes signed bytes.
static inline V load_int8(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline float sum(V x) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x),
                                     _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
// kLanes registers, rows -> columns.
static inline void transpose(V (&r)[kLanes]) {
  V t[kLanes];
  const auto low = [](V a, V b) {  // of each quarter the first 64 bits of a, then of b
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](V a, V b) { return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b))); };
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = low(t[i], t[i + 2]);
    r[i + 1] = high(t[i], t[i + 2]);
    r[i + 2] = low(t[i + 1], t[i + 3]);
    r[i + 3] = high(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; ++j) {
      t[i + j] = _mm512_shuffle_f32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_f32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  for (int j = 0; j < 8; ++j) {
    r[j] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_f32x4(t[j], t[j + 8], 0xdd);
  }
}
// The first n lanes, or all.
static inline void store_some(float* p, int n, V x) {
  _mm512_mask_storeu_ps(p, n < kLanes ? static_cast<__mmask16>((1u << n) - 1) : static_cast<__mmask16>(0xffff), x);
}
// 2^n for whole n in [-126, 127].
static inline V exp2_whole(V n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
static inline V round_nearest(V x) { return _mm512_roundscale_ps(x, 0); }
// `value` where x >= limit or x is no number, else 0.
static inline V zero_below(V value, V x, V limit) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
}

#elif defined(GPTOSS_AVX2)

using V = __m256;
constexpr int kLanes = 8;
static inline V zero() { return _mm256_setzero_ps(); }
static inline V set1(float x) { return _mm256_set1_ps(x); }
static inline V load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, V x) { _mm256_storeu_ps(p, x); }
static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
static inline V div(V a, V b) { return _mm256_div_ps(a, b); }
static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
static inline V min(V a, V b) { return _mm256_min_ps(a, b); }

static inline V bf16_from_bits(__m256i low_half) { return _mm256_castsi256_ps(_mm256_slli_epi32(low_half, 16)); }
static inline V load_bf16(const uint16_t* p) {
  return bf16_from_bits(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
static inline V round_bf16(V x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}
static inline void load_bf16_pairs(const uint16_t* p, V& even, V& odd) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  even = bf16_from_bits(both);
  odd = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xffff0000))));
}
static inline void deinterleave(V a, V b, V& even, V& odd) {
  const auto ordered = [](V x) {  // the shuffles work per 128-bit half: put the quarters 0 2 1 3 back in order
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(x), 0b11011000));
  };
  even = ordered(_mm256_shuffle_ps(a, b, 0b10001000));
  odd = ordered(_mm256_shuffle_ps(a, b, 0b11011101));
}
// Of the sixteen E2M1 values times each scale the upper half, which is all there is: its low bytes, and its high ones. Of
// the 16 KiB a model uses the lines of a dozen scales.
struct Mxfp4Halves {
  uint8_t byte[256][2][32];  // once for each half of a register
  constexpr Mxfp4Halves() : byte() {
    constexpr Mxfp4Table<16> table;
    for (int scale = 0; scale < 256; ++scale)
      for (int code = 0; code < 32; ++code) {
        const uint32_t bits = __builtin_bit_cast(uint32_t, table.value[scale][code % 16]);
        byte[scale][0][code] = bits >> 16 & 255;
        byte[scale][1][code] = bits >> 24;
      }
  }
};
alignas(64) static constexpr Mxfp4Halves kMxfp4;
struct Mxfp4 {
  __m256i low, high;
};
static inline Mxfp4 mxfp4(uint8_t scale) {
  const auto* const bytes = reinterpret_cast<const __m256i*>(kMxfp4.byte[scale]);
  return {_mm256_load_si256(bytes), _mm256_load_si256(bytes + 1)};
}
// A whole group, because one look-up finds a byte of 32 values: of bytes 0-7 the low nibbles and the high ones, then of
// bytes 8-15. Bytes i and i + 8 become words beside each other, and words the upper halves of floats by a shift or a mask.
constexpr int kMxfp4Registers = 4;
static inline void load_mxfp4(const uint8_t* p, Mxfp4 m, V (&w)[kMxfp4Registers]) {
  const __m256i place = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 0, 8, 1, 9, 2, 10, 3, 11,  //
                                         4, 12, 5, 13, 6, 14, 7, 15, 4, 12, 5, 13, 6, 14, 7, 15);
  const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i shifted = _mm256_srlv_epi64(_mm256_shuffle_epi8(bytes, place), _mm256_setr_epi64x(0, 4, 0, 4));
  const __m256i codes = _mm256_and_si256(shifted, _mm256_set1_epi8(15));
  const __m256i low_bytes = _mm256_shuffle_epi8(m.low, codes), high_bytes = _mm256_shuffle_epi8(m.high, codes);
  const __m256i low = _mm256_unpacklo_epi8(low_bytes, high_bytes), high = _mm256_unpackhi_epi8(low_bytes, high_bytes);
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  w[0] = bf16_from_bits(low);
  w[1] = bf16_from_bits(high);
  w[2] = _mm256_castsi256_ps(_mm256_and_si256(low, upper));
  w[3] = _mm256_castsi256_ps(_mm256_and_si256(high, upper));
}
static inline V load_int8(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
static inline float sum(V x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
static inline void transpose(V (&r)[kLanes]) {
  V t[kLanes];
  for (int i = 0; i < 8; i += 4)
    for (int j = 0; j < 2; ++j) {  // of rows i + 2 j and i + 2 j + 1
      t[i + 2 * j] = _mm256_unpacklo_ps(r[i + 2 * j], r[i + 2 * j + 1]);
      t[i + 2 * j + 1] = _mm256_unpackhi_ps(r[i + 2 * j], r[i + 2 * j + 1]);
    }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0b01000100);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0b11101110);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0b01000100);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0b11101110);
  }
  for (int i = 0; i < 4; ++i) {
    const V low = r[i], high = r[i + 4];
    r[i] = _mm256_permute2f128_ps(low, high, 0x20);
    r[i + 4] = _mm256_permute2f128_ps(low, high, 0x31);
  }
}
static inline V exp2_whole(V n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline V round_nearest(V x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline V zero_below(V value, V x, V limit) { return _mm256_and_ps(value, _mm256_cmp_ps(x, limit, _CMP_NLT_UQ)); }

#else  // four lanes: NEON, or the compiler's generic vectors (SSE2 on x86-64)

using V = float __attribute__((vector_size(16)));
using I = int32_t __attribute__((vector_size(16)));
using U = uint32_t __attribute__((vector_size(16)));
constexpr int kLanes = 4;
static inline V zero() { return V{0, 0, 0, 0}; }
static inline V set1(float x) { return V{x, x, x, x}; }
static inline V load(const float* p) {
  V x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
static inline void store(float* p, V x) { __builtin_memcpy(p, &x, sizeof x); }
static inline V add(V a, V b) { return a + b; }
static inline V sub(V a, V b) { return a - b; }
static inline V mul(V a, V b) { return a * b; }
static inline V div(V a, V b) { return a / b; }
#if defined(GPTOSS_NEON)
static inline V fma(V a, V b, V c) { return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
static inline V fma(V a, V b, V c) { return a * b + c; }
#endif
static inline V max(V a, V b) { return a > b ? a : b; }
static inline V min(V a, V b) { return a < b ? a : b; }

static inline V load_bf16(const uint16_t* p) {
  return (V)(U{p[0], p[1], p[2], p[3]} << 16);
}
static inline V round_bf16(V x) {
  const U bits = (U)x;
  return (V)((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u);
}
static inline void load_bf16_pairs(const uint16_t* p, V& even, V& odd) {
  U both;
  __builtin_memcpy(&both, p, sizeof both);
  even = (V)(both << 16);
  odd = (V)(both & 0xffff0000u);
}
static inline void deinterleave(V a, V b, V& even, V& odd) {
  even = V{a[0], a[2], b[0], b[2]};
  odd = V{a[1], a[3], b[1], b[3]};
}
struct Mxfp4 {
  V scale;
};
static inline Mxfp4 mxfp4(uint8_t scale) { return {set1(kE8m0.value[scale])}; }
constexpr int kMxfp4Registers = 2;
static inline void load_mxfp4(const uint8_t* p, Mxfp4 m, V (&w)[kMxfp4Registers]) {
#if defined(GPTOSS_NEON)
  // Look up the high half of each value's float32 (its bf16 form), two byte tables side by side.
  const uint8x16_t high_byte = {0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                                0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
  const uint8x16_t low_byte = {0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0,
                               0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0};
  uint32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(word));
  const uint8x8_t codes = vext_u8(vand_u8(bytes, vdup_n_u8(15)), vshr_n_u8(bytes, 4), 4);  // 4 low, 4 high
  const uint8x8x2_t halves = vzip_u8(vqtbl1_u8(low_byte, codes), vqtbl1_u8(high_byte, codes));
  w[0] = mul((V)vshll_n_u16(vreinterpret_u16_u8(halves.val[0]), 16), m.scale);
  w[1] = mul((V)vshll_n_u16(vreinterpret_u16_u8(halves.val[1]), 16), m.scale);
#else
  w[0] = mul(V{kE2m1[p[0] & 15], kE2m1[p[1] & 15], kE2m1[p[2] & 15], kE2m1[p[3] & 15]}, m.scale);
  w[1] = mul(V{kE2m1[p[0] >> 4], kE2m1[p[1] >> 4], kE2m1[p[2] >> 4], kE2m1[p[3] >> 4]}, m.scale);
#endif
}
static inline V load_int8(const int8_t* p) {
  return V{static_cast<float>(p[0]), static_cast<float>(p[1]), static_cast<float>(p[2]), static_cast<float>(p[3])};
}
static inline float sum(V x) { return (x[0] + x[2]) + (x[1] + x[3]); }
static inline void transpose(V (&r)[kLanes]) {
  const V a = r[0], b = r[1], c = r[2], d = r[3];
  for (int i = 0; i < kLanes; ++i) r[i] = V{a[i], b[i], c[i], d[i]};
}
static inline V exp2_whole(V n) { return (V)((__builtin_convertvector(n, I) + 127) << 23); }
// Exact for |x| < 2^22: adding 1.5 * 2^23 leaves no fraction bits.
static inline V round_nearest(V x) { return (x + 12582912.0f) - 12582912.0f; }
static inline V zero_below(V value, V x, V limit) { return x < limit ? zero() : value; }

#endif

#if !defined(GPTOSS_AVX512)
// The first n lanes, or all.
static inline void store_some(float* p, int n, V x) {
  if (n >= kLanes) return store(p, x);
  float lanes[kLanes];
  store(lanes, x);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}
#endif
