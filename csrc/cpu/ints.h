// A register of integer lanes of 32 bits, as many as V has, for integers.inl: the only place where it meets an instruction
// set. Included like vec.h, after it, where products of integers are: with AVX2, and with VNNI (GPTOSS_VNNI) of 256 or 512
// bits, whose instructions add four products of bytes to a lane of 32 bits, or two of words.

// A group of activations, 32 of 16 bits or what they are made of, takes 256 bits everywhere.
using HalfWords = __m256i;

static inline __m128i load_quarter(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }

#if defined(GPTOSS_AVX512)

using Ints = __m512i;
static inline Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
static inline void store_ints(void* p, Ints x) { _mm512_storeu_si512(p, x); }
static inline Ints no_ints() { return _mm512_setzero_si512(); }
static inline Ints broadcast_ints(const void* p) {
  int dword;
  __builtin_memcpy(&dword, p, sizeof dword);
  return _mm512_set1_epi32(dword);
}
static inline V floats_of(Ints x) { return _mm512_cvtepi32_ps(x); }
static inline V floats_as(Ints bits) { return _mm512_castsi512_ps(bits); }
static inline Ints unsigned_bytes(const void* p) { return _mm512_cvtepu8_epi32(load_quarter((const uint8_t*)p)); }
static inline Ints larger(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
static inline Ints exponents(Ints x) { return _mm512_slli_epi32(x, 23); }
// 16 bytes of a row, of the fourth one after it, and so on.
static inline Ints load_quarters(const uint8_t* row, size_t row_bytes) {
  const uint8_t* const eighth = row + 8 * row_bytes;
  Ints x = _mm512_castsi128_si512(load_quarter(row));
  x = _mm512_inserti32x4(x, load_quarter(row + 4 * row_bytes), 1);
  x = _mm512_inserti32x4(x, load_quarter(eighth), 2);
  return _mm512_inserti32x4(x, load_quarter(eighth + 4 * row_bytes), 3);
}
// Within each quarter.
static inline Ints low_dwords(Ints a, Ints b) { return _mm512_unpacklo_epi32(a, b); }
static inline Ints high_dwords(Ints a, Ints b) { return _mm512_unpackhi_epi32(a, b); }
static inline Ints low_pairs(Ints a, Ints b) { return _mm512_unpacklo_epi64(a, b); }
static inline Ints high_pairs(Ints a, Ints b) { return _mm512_unpackhi_epi64(a, b); }
static inline Ints look_up(__m128i table, Ints codes) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), codes); }
static inline Ints low_nibbles(Ints bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
static inline Ints high_nibbles(Ints bytes) { return low_nibbles(_mm512_srli_epi16(bytes, 4)); }
static inline Ints flip_signs(Ints bytes) { return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)); }
// Of signed bytes those at even places, or those at odd ones, as words.
static inline Ints even_words(Ints bytes) { return _mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8); }
static inline Ints odd_words(Ints bytes) { return _mm512_srai_epi16(bytes, 8); }

#else

using Ints = __m256i;
static inline Ints load_ints(const void* p) { return _mm256_loadu_si256((const Ints*)p); }
static inline void store_ints(void* p, Ints x) { _mm256_storeu_si256((Ints*)p, x); }
static inline Ints no_ints() { return _mm256_setzero_si256(); }
static inline Ints broadcast_ints(const void* p) {
  int dword;
  __builtin_memcpy(&dword, p, sizeof dword);
  return _mm256_set1_epi32(dword);
}
static inline V floats_of(Ints x) { return _mm256_cvtepi32_ps(x); }
static inline V floats_as(Ints bits) { return _mm256_castsi256_ps(bits); }
static inline Ints unsigned_bytes(const void* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
static inline Ints larger(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
static inline Ints exponents(Ints x) { return _mm256_slli_epi32(x, 23); }
static inline Ints load_quarters(const uint8_t* row, size_t row_bytes) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(load_quarter(row)), load_quarter(row + 4 * row_bytes), 1);
}
static inline Ints low_dwords(Ints a, Ints b) { return _mm256_unpacklo_epi32(a, b); }
static inline Ints high_dwords(Ints a, Ints b) { return _mm256_unpackhi_epi32(a, b); }
static inline Ints low_pairs(Ints a, Ints b) { return _mm256_unpacklo_epi64(a, b); }
static inline Ints high_pairs(Ints a, Ints b) { return _mm256_unpackhi_epi64(a, b); }
static inline Ints look_up(__m128i table, Ints codes) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), codes); }
static inline Ints low_nibbles(Ints bytes) { return _mm256_and_si256(bytes, _mm256_set1_epi8(15)); }
static inline Ints high_nibbles(Ints bytes) { return low_nibbles(_mm256_srli_epi16(bytes, 4)); }
static inline Ints flip_signs(Ints bytes) { return _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)); }
static inline Ints even_words(Ints bytes) { return _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8); }
static inline Ints odd_words(Ints bytes) { return _mm256_srai_epi16(bytes, 8); }

#endif

// acc + two products of words in every lane; acc + four products of a byte without sign and a signed one, in lanes of 32
// bits, or where kWordSums two in every 16 bits. Without the barriers GCC adds them up as a tree, for which there are not
// enough registers.
#if defined(GPTOSS_AVX512)
static inline Ints add_words(Ints acc, Ints w, Ints x) {
  acc = _mm512_dpwssd_epi32(acc, w, x);
  asm("" : "+v"(acc));
  return acc;
}
static inline Ints add_bytes(Ints acc, Ints w, Ints x) {
  acc = _mm512_dpbusd_epi32(acc, w, x);
  asm("" : "+v"(acc));
  return acc;
}
static inline Ints join(Ints high, Ints low) { return _mm512_add_epi32(_mm512_slli_epi32(high, 8), low); }
static inline Ints add_sums(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
constexpr bool kWordSums = false;
#elif defined(GPTOSS_VNNI)
static inline Ints add_words(Ints acc, Ints w, Ints x) {
  acc = _mm256_dpwssd_avx_epi32(acc, w, x);
  asm("" : "+x"(acc));
  return acc;
}
static inline Ints add_bytes(Ints acc, Ints w, Ints x) {
  acc = _mm256_dpbusd_avx_epi32(acc, w, x);
  asm("" : "+x"(acc));
  return acc;
}
static inline Ints join(Ints high, Ints low) { return _mm256_add_epi32(_mm256_slli_epi32(high, 8), low); }
static inline Ints add_sums(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
constexpr bool kWordSums = false;
#else
static inline Ints add_words(Ints acc, Ints w, Ints x) {
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(w, x));
  asm("" : "+x"(acc));
  return acc;
}
static inline Ints add_bytes(Ints acc, Ints w, Ints x) {
  acc = _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x));
  asm("" : "+x"(acc));
  return acc;
}
static inline Ints join(Ints high, Ints low) {  // 256 times the sums of high, and those of low
  return _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(256)), _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
}
static inline Ints add_sums(Ints a, Ints b) { return _mm256_add_epi16(a, b); }
constexpr bool kWordSums = true;
#endif
