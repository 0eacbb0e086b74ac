// Attention by products of bf16, for keys and values in bf16 and rounded queries: one key/value head, up to a split's
// pages, whose partial sums are merged page by page as attn_page does.
//
// Scores and outputs are products with the cache as A: (64 slots, dims) queries, then (dims, 64 slots) weights. So
// queries are columns: 16 of them are the lanes of all that lies between, and none depends on its neighbours.
//
// Order of sums: that of multiply_columns; the softmax's denominator over the slots, ascending, in four chains.
//
// Included after bf16_terms.inl, in the same namespace, and after what multiplies on this instruction set:
//   multiply_columns(a, row_bytes, rows, columns, steps, out, later): rows of A, in whole 16s, of `steps` groups of 32 bf16,
//     and 16 columns, as attn_columns arranges them -> out (rows, 16). `later`: an A of the same size that is wanted soon.
//   ColumnUnit: lives while there are such products

constexpr int kColumnStep = kPackGroup, kSlotSteps = kPage / kColumnStep;

// Queries (queries, head_dim) that are bf16 already -> columns, 16 at a time.
static void attn_columns(const float* q, int queries, int head_dim, void* to) {
  const int steps = (head_dim + kColumnStep - 1) / kColumnStep;
  for (int first = 0; first < queries; first += 16)
    for (int step = 0; step < steps; ++step) {
      V rows[16];
      for (int i = 0; i < 16; ++i) {
        const int left = head_dim - step * kColumnStep;
        const __mmask16 low = first + i >= queries ? 0 : left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        const __mmask16 high = first + i >= queries || left <= 16 ? 0
                               : left >= 32                       ? 0xffff
                                                                  : (__mmask16)((1u << (left - 16)) - 1);
        const float* p = q + (size_t)(first + i) * head_dim + step * kColumnStep;
        rows[i] = _mm512_castsi512_ps(high_halves(_mm512_maskz_loadu_ps(low, p), _mm512_maskz_loadu_ps(high, p + 16)));
      }
      transpose(rows);
      for (int i = 0; i < 16; ++i)
        store((float*)to + ((size_t)first / 16 * steps + step) * kTileBytes / sizeof(float) + 16 * i, rows[i]);
    }
}

// (64 slots, 16 queries) scores -> softmax weights as columns of bf16 pairs; the maximum and the sum of each query, which sees
// slots [first, last), or the whole page.
template <bool whole>
static inline void attn_weights(const float* scores, V scale, __m512i first, __m512i last, uint8_t* columns, V* maximum,
                                V* total) {
  const V lowest = set1(-__builtin_inff());
  const auto score = [&](int slot) {
    if (whole) return mul(load(scores + 16 * slot), scale);
    const __m512i at = _mm512_set1_epi32(slot);
    const __mmask16 seen = _mm512_cmple_epi32_mask(first, at) & _mm512_cmpgt_epi32_mask(last, at);
    return _mm512_mask_mul_ps(lowest, seen, load(scores + 16 * slot), scale);
  };
  V m[4] = {lowest, lowest, lowest, lowest};
  for (int slot = 0; slot < kPage; slot += 4)
    for (int i = 0; i < 4; ++i) m[i] = max(m[i], score(slot + i));
  const V highest = max(max(m[0], m[1]), max(m[2], m[3]));
  // Nothing seen: all weights are 0, whatever is subtracted, if it is a number.
  const V base = _mm512_mask_mov_ps(highest, _mm512_cmp_ps_mask(highest, lowest, _CMP_EQ_OQ), zero());
  V l[4] = {zero(), zero(), zero(), zero()};
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i pairs = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(16)), 16));
  for (int slot = 0; slot < kPage; slot += 4) {
    V w[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = exp(sub(score(slot + i), base));
      l[i] = add(l[i], w[i]);
    }
    for (int i = 0; i < 4; i += 2) {
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(w[i + 1], w[i]);
      _mm512_store_si512(columns + (slot + i) / 2 * 64, _mm512_permutexvar_epi16(pairs, both));
    }
  }
  *maximum = highest;
  *total = add(add(l[0], l[1]), add(l[2], l[3]));
}

static void attn_split(const AttnSplitArgs& a) {
  const int key_steps = (a.head_dim + kColumnStep - 1) / kColumnStep, key_bytes = key_steps * 2 * kColumnStep;
  uint8_t* const columns = (uint8_t*)a.scratch;             // (32 pairs of slots, 16)
  float* const scores = a.scratch + 2 * kTileBytes / 4;     // (64, 16)
  float* const out = scores + 4 * kTileBytes / 4;           // (padded_dim, 16)
  float* const acc = out + 16 * a.padded_dim;               // (padded_dim, 16)
  uint8_t* const seen_values = (uint8_t*)(acc + 16 * a.padded_dim);  // (padded_dim, 64)
  const ColumnUnit unit;
  for (int query = 0; query < a.queries; query += 16) {
    const int some = a.queries - query < 16 ? a.queries - query : 16;
    const __mmask16 lanes = (__mmask16)((1u << some) - 1);
    const __m512i from = _mm512_maskz_loadu_epi32(lanes, a.first + query), to = _mm512_maskz_loadu_epi32(lanes, a.last + query);
    const uint8_t* q = (const uint8_t*)a.q + (size_t)query / 16 * key_steps * kTileBytes;
    V m = set1(-__builtin_inff()), l = zero();
    for (int i = 0; i < 16 * a.padded_dim; i += 16) store(acc + i, zero());

    for (int page = 0; page < a.pages; ++page) {
      const __m512i start = _mm512_set1_epi32(page * kPage);
      const __m512i first = _mm512_max_epi32(_mm512_sub_epi32(from, start), _mm512_setzero_si512());
      const __m512i last = _mm512_min_epi32(_mm512_sub_epi32(to, start), _mm512_set1_epi32(kPage));
      const __mmask16 any = _mm512_cmplt_epi32_mask(first, last) & lanes;
      if (!any) continue;
      const uint8_t* const keys = a.page[page];
      const uint8_t* const later = page + 1 < a.pages ? a.page[page + 1] : a.next ? a.next : keys;
      multiply_columns(keys, key_bytes, kPage, q, key_steps, scores, later);
      V m2, l2;
      const bool whole = !(any & (_mm512_cmpgt_epi32_mask(first, _mm512_setzero_si512()) |
                                  _mm512_cmplt_epi32_mask(last, _mm512_set1_epi32(kPage))));
      whole ? attn_weights<true>(scores, set1(a.scale), first, last, columns, &m2, &l2)
            : attn_weights<false>(scores, set1(a.scale), first, last, columns, &m2, &l2);

      // A weight of 0 does not silence what is no number: slots that nobody may see yet are not looked at.
      const int low = _mm512_mask_reduce_min_epi32(any, first), high = _mm512_mask_reduce_max_epi32(any, last);
      const uint8_t* values = keys + kPage * key_bytes;
      if (low > 0 || high < kPage) {
        const uint64_t bits = (high < 64 ? (1ull << high) - 1 : ~0ull) & ~((1ull << low) - 1);
        for (int d = 0; d < a.padded_dim; ++d)
          for (int half = 0; half < 2; ++half)
            _mm512_store_si512(seen_values + d * 128 + half * 64,
                               _mm512_maskz_loadu_epi16((__mmask32)(bits >> 32 * half), values + d * 128 + half * 64));
        values = seen_values;
      }
      multiply_columns(values, kPage * 2, a.padded_dim, columns, kSlotSteps, out, later + kPage * key_bytes);

      // As attn_merge, for those that saw something.
      const V highest = _mm512_mask_mov_ps(m, any, max(m, m2));
      const V base = _mm512_mask_mov_ps(highest, _mm512_cmp_ps_mask(highest, set1(-__builtin_inff()), _CMP_EQ_OQ), zero());
      const V keep = _mm512_mask_mov_ps(set1(1.0f), any, exp(sub(m, base))), take = _mm512_maskz_mov_ps(any, exp(sub(m2, base)));
      l = _mm512_mask_mov_ps(l, any, add(mul(l, keep), mul(l2, take)));
      m = highest;
      for (int i = 0; i < 16 * a.padded_dim; i += 16)
        store(acc + i, _mm512_mask_mov_ps(load(acc + i), any, add(mul(load(acc + i), keep), mul(load(out + i), take))));
    }
    _mm512_mask_storeu_ps(a.m + query, lanes, m);
    _mm512_mask_storeu_ps(a.l + query, lanes, l);
    for (int d = 0; d < a.padded_dim; d += 16)
      store_columns((const uint8_t*)(acc + 16 * d), 16, some, a.acc + (size_t)query * a.padded_dim + d, a.padded_dim);
  }
}
