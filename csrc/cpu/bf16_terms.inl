// What the instruction sets of x86-64 that multiply bf16 have in common: MXFP4 as bf16, and activations as bf16 terms.
//
// Included by an ISA file after kernels.inl, in the same namespace; see there for what may be used.

// ---- weights -----------------------------------------------------------------------------------------------

// The bf16 of every E2M1 code under every E8M0 scale, twice, for a look-up that sees a fifth bit. What is subnormal is 0,
// as the products of bf16 would take it.
struct Mxfp4Table16 {
  uint16_t value[256][32];
  constexpr Mxfp4Table16() : value() {
    constexpr int exponent[8] = {0, -1, 0, 0, 1, 1, 2, 2};
    constexpr int half[8] = {0, 0, 0, 1, 0, 1, 0, 1};
    for (int scale = 0; scale < 256; ++scale)
      for (int code = 0; code < 32; ++code) {
        const int e = scale + exponent[code & 7];
        int bits = e <= 0 ? 0 : e >= 255 ? 0x7f80 : e << 7 | half[code & 7] << 6;
        if ((code & 7) == 0) bits = scale == 255 ? 0x7fc0 : 0;
        value[scale][code] = (uint16_t)(bits | (code & 8) << 12);
      }
  }
};
alignas(64) static constexpr Mxfp4Table16 kMxfp4Bf16;

// Byte b of a group goes to all four bytes of dword b.
struct FourTimes {
  uint8_t place[64];
  constexpr FourTimes() : place() {
    for (int i = 0; i < 64; ++i) place[i] = (uint8_t)(i / 4);
  }
};
alignas(64) static constexpr FourTimes kFourTimes;

// 16 bytes of codes -> their 32 values in order. A dword has a byte four times; of its words the lower begins with the low
// nibble, and the upper, shifted, with the high one. What is above does not matter.
static inline __m512i mxfp4_bf16(const uint8_t* codes, uint8_t scale) {
  const __m512i place = _mm512_load_si512(kFourTimes.place), shift = _mm512_set1_epi32(4 << 16);
  const __m512i bytes = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)codes)), place);
  return _mm512_permutexvar_epi16(_mm512_srlv_epi16(bytes, shift), _mm512_load_si512(kMxfp4Bf16.value[scale]));
}

// A group of int8 as quantize.h has it, the even places, then the odd ones -> its values in order, exact in bf16.
static inline __m512i int8_bf16(const int8_t* group, uint8_t scale) {
  const V power = set1(kE8m0.value[scale]);
  const __m512i even = _mm512_castps_si512(mul(load_int8(group), power));
  const __m512i odd = _mm512_castps_si512(mul(load_int8(group + kHalf), power));
  return _mm512_or_si512(odd, _mm512_srli_epi32(even, 16));
}

// ---- activations -------------------------------------------------------------------------------------------
// A packed group of 32: its bf16 in their order. Exact: three terms that add up to the float, the smallest first; the
// first takes the upper 8 of its 24 bits, the others the 8 below and the rest.

static inline __m512i high_halves(V first, V second) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_setr_epi16(1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53, 57, 61));
  const __m512i places = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(2)), 16));
  return _mm512_permutex2var_epi16(_mm512_castps_si512(first), places, _mm512_castps_si512(second));
}
static inline V cut(V x) {  // towards zero: the largest float does not become infinite
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xffff0000)));
}

static inline void pack_group(V first, V second, bool round, uint8_t* to) {
  if (round) return _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(second, first));
  for (int term = 2; term >= 0; --term) {
    const V a = cut(first), b = cut(second);
    _mm512_storeu_si512(to + 64 * term, high_halves(a, b));
    first = sub(first, a);
    second = sub(second, b);
  }
}

static void terms_pack(const float* x, const float* gain, float scale, int n, bool round, float* packed) {
  uint8_t* to = (uint8_t*)packed;
  const int group_bytes = round ? 64 : 192;
  int i = 0;
  for (; i + kPackGroup <= n; i += kPackGroup, to += group_bytes)
    pack_group(scaled(x + i, gain ? gain + i : gain, scale),
               scaled(x + i + kLanes, gain ? gain + i + kLanes : gain, scale), round, to);
  if (i == n) return;
  float rest[kPackGroup] = {};
  for (int j = 0; i < n; ++i, ++j) rest[j] = gain ? x[i] * scale * gain[i] : x[i] * scale;
  pack_group(load(rest), load(rest + kLanes), round, to);
}

static void terms_swiglu_pack(const float* u, const uint16_t* bias, int n, float limit, float alpha, bool round,
                              float* packed) {
  for (int i = 0; i < n; i += kPackGroup)
    pack_group(swiglu(u + 2 * i, bias + 2 * i, set1(limit), set1(alpha)),
               swiglu(u + 2 * (i + kLanes), bias + 2 * (i + kLanes), set1(limit), set1(alpha)), round,
               (uint8_t*)packed + i / kPackGroup * (round ? 64 : 192));
}

// ---- sums --------------------------------------------------------------------------------------------------

static inline V other_of_two(V x) { return _mm512_permute_ps(x, 0b10110001); }  // lane 1 in lane 0, and so on

// C (16 rows, 16 columns, of which `tokens` matter) -> y[t * y_stride + r].
static inline void store_columns(const uint8_t* c, int rows, int tokens, float* y, size_t y_stride) {
  V r[16];
  for (int i = 0; i < 16; ++i) r[i] = load((const float*)(c + 64 * i));
  transpose(r);
  for (int t = 0; t < 16; ++t)
    if (t < tokens) store_some(y + t * y_stride, rows, r[t]);
}
