// Attention by products of bf16, for keys and values in bf16 and rounded queries: one key/value head, up to a split's
// pages, whose partial sums are merged page by page as attn_page does.
//
// Scores and outputs are products with the cache as A: (64 slots, dims) queries, then (dims, 64 slots) weights. So
// queries are columns: 16 of them are the lanes of all that lies between, and none depends on its neighbours.
//
// Order of sums: that of multiply_columns; the softmax's denominator over the slots, ascending, in four chains.
//
// Included after bf16_terms.inl, in the same namespace, and after what multiplies on this instruction set:
//   multiply_columns<paired>(a, row_bytes, rows, columns, steps, out, later): rows of A, in whole 16s, of `steps` groups of 32
//     bf16, and 16 columns, as attn_columns arranges them -> out (rows, 16). `later`: an A of the same size, wanted soon.
//   ColumnUnit: lives while there are such products
//   kPairedColumns: whether there is a form for up to 8 queries, in which two lanes share a query. Columns have the first
//     pair of bf16 of every four in even lanes and the second in odd ones; of four rows, results have rows 0 and 2 in one
//     register, even and odd lanes, and rows 1 and 3 in the next. To the same bits.

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

static inline __m512i twice(__m512i x) {
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), x);
}

// (64 slots, 16 queries) scores -> softmax weights as columns of bf16 pairs; the maximum and the sum of each query, which sees
// slots [first, last), or the whole page.
template <bool paired, bool whole>
static inline void attn_weights(const float* scores, V scale, __m512i first, __m512i last, uint8_t* columns, V* maximum,
                                V* total) {
  constexpr int kChains = paired ? 2 : 4, kRegisters = paired ? kPage / 2 : kPage;
  const V lowest = set1(-__builtin_inff());
  const auto score = [&](int i) {
    if (whole) return mul(load(scores + 16 * i), scale);
    __m512i slot = _mm512_set1_epi32(paired ? i / 2 * 4 + i % 2 : i);
    if (paired) slot = _mm512_mask_add_epi32(slot, 0xaaaa, slot, _mm512_set1_epi32(2));
    const __mmask16 seen = _mm512_cmple_epi32_mask(first, slot) & _mm512_cmpgt_epi32_mask(last, slot);
    return _mm512_mask_mul_ps(lowest, seen, load(scores + 16 * i), scale);
  };
  V m[kChains], l[kChains];
  for (int i = 0; i < kChains; ++i) m[i] = lowest, l[i] = zero();
  for (int at = 0; at < kRegisters; at += kChains)
    for (int i = 0; i < kChains; ++i) m[i] = max(m[i], score(at + i));
  V highest = paired ? max(m[0], m[1]) : max(max(m[0], m[1]), max(m[kChains - 2], m[kChains - 1]));
  if (paired) highest = max(highest, other_of_two(highest));
  // Nothing seen: all weights are 0, whatever is subtracted, if it is a number.
  const V base = _mm512_mask_mov_ps(highest, _mm512_cmp_ps_mask(highest, lowest, _CMP_EQ_OQ), zero());
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  const __m512i pairs = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(16)), 16));
  for (int at = 0; at < kRegisters; at += kChains) {
    V w[kChains];
    for (int i = 0; i < kChains; ++i) {
      w[i] = exp(sub(score(at + i), base));
      l[i] = add(l[i], w[i]);
    }
    for (int i = 0; i < kChains; i += 2) {
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(w[i + 1], w[i]);
      _mm512_store_si512(columns + (at + i) / 2 * 64, _mm512_permutexvar_epi16(pairs, both));
    }
  }
  const V half = add(l[0], l[1]);
  *maximum = highest;
  *total = paired ? add(half, other_of_two(half)) : add(half, add(l[kChains - 2], l[kChains - 1]));
}

// Columns of up to 8 queries -> the same paired.
static inline void pair_columns(const uint8_t* q, int steps, uint8_t* to) {
  const __m512i both = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  for (int i = 0; i < steps * kColumnStep / 4; ++i, q += 128, to += 64)
    _mm512_store_si512(to, _mm512_permutex2var_epi32(_mm512_load_si512(q), both, _mm512_load_si512(q + 64)));
}
// Outputs (padded_dim, 8 queries), paired -> acc (queries, padded_dim).
static inline void store_paired(const float* sums, int queries, int padded_dim, float* acc) {
  for (int d = 0; d < padded_dim; d += 4, sums += 32) {
    alignas(64) float rows[2][16];
    store(rows[0], _mm512_unpacklo_ps(load(sums), load(sums + 16)));
    store(rows[1], _mm512_unpackhi_ps(load(sums), load(sums + 16)));
    for (int i = 0; i < queries; ++i) __builtin_memcpy(acc + i * padded_dim + d, rows[i % 2] + i / 2 * 4, 4 * sizeof(float));
  }
}

// Up to 16 queries, or up to 8 paired.
template <bool paired>
static inline void attn_queries_of(const AttnSplitArgs& a, int query) {
  const int key_steps = (a.head_dim + kColumnStep - 1) / kColumnStep, key_bytes = key_steps * 2 * kColumnStep;
  const int sums = (paired ? 8 : 16) * a.padded_dim;        // floats of the outputs
  uint8_t* const columns = (uint8_t*)a.scratch;             // (32 pairs of slots, 16)
  float* const scores = a.scratch + 2 * kTileBytes / 4;     // (64, 16)
  float* const out = scores + 4 * kTileBytes / 4;           // (padded_dim, 16)
  float* const acc = out + 16 * a.padded_dim;               // (padded_dim, 16)
  uint8_t* const seen_values = (uint8_t*)(acc + 16 * a.padded_dim);       // (padded_dim, 64)
  uint8_t* const paired_q = seen_values + 2 * kPage * a.padded_dim;       // (key_steps * 8, 16)
  const int some = a.queries - query < 16 ? a.queries - query : 16;
  const __mmask16 lanes = (__mmask16)((1u << (paired ? 2 * some : some)) - 1);
  const auto of_queries = [&](const int* p) {
    const __m512i own = _mm512_maskz_loadu_epi32((__mmask16)((1u << some) - 1), p + query);
    return paired ? twice(own) : own;
  };
  const __m512i from = of_queries(a.first), to = of_queries(a.last);
  const uint8_t* q = (const uint8_t*)a.q + (size_t)query / 16 * key_steps * kTileBytes;
  if (paired) {
    pair_columns(q, key_steps, paired_q);
    q = paired_q;
  }
  V m = set1(-__builtin_inff()), l = zero();
  for (int i = 0; i < sums; i += 16) store(acc + i, zero());

  for (int page = 0; page < a.pages; ++page) {
    const __m512i start = _mm512_set1_epi32(page * kPage);
    const __m512i first = _mm512_max_epi32(_mm512_sub_epi32(from, start), _mm512_setzero_si512());
    const __m512i last = _mm512_min_epi32(_mm512_sub_epi32(to, start), _mm512_set1_epi32(kPage));
    const __mmask16 any = _mm512_cmplt_epi32_mask(first, last) & lanes;
    if (!any) continue;
    const uint8_t* const keys = a.page[page];
    const uint8_t* const later = page + 1 < a.pages ? a.page[page + 1] : a.next ? a.next : keys;
    multiply_columns<paired>(keys, key_bytes, kPage, q, key_steps, scores, later);
    V m2, l2;
    const bool whole = !(any & (_mm512_cmpgt_epi32_mask(first, _mm512_setzero_si512()) |
                                _mm512_cmplt_epi32_mask(last, _mm512_set1_epi32(kPage))));
    whole ? attn_weights<paired, true>(scores, set1(a.scale), first, last, columns, &m2, &l2)
          : attn_weights<paired, false>(scores, set1(a.scale), first, last, columns, &m2, &l2);

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
    multiply_columns<paired>(values, kPage * 2, a.padded_dim, columns, kSlotSteps, out, later + kPage * key_bytes);

    // As attn_merge, for those that saw something.
    const V highest = _mm512_mask_mov_ps(m, any, max(m, m2));
    const V base = _mm512_mask_mov_ps(highest, _mm512_cmp_ps_mask(highest, set1(-__builtin_inff()), _CMP_EQ_OQ), zero());
    const V keep = _mm512_mask_mov_ps(set1(1.0f), any, exp(sub(m, base))), take = _mm512_maskz_mov_ps(any, exp(sub(m2, base)));
    l = _mm512_mask_mov_ps(l, any, add(mul(l, keep), mul(l2, take)));
    m = highest;
    for (int i = 0; i < sums; i += 16)
      store(acc + i, _mm512_mask_mov_ps(load(acc + i), any, add(mul(load(acc + i), keep), mul(load(out + i), take))));
  }
  if (paired) {
    _mm512_mask_compressstoreu_ps(a.m + query, lanes & 0x5555, m);
    _mm512_mask_compressstoreu_ps(a.l + query, lanes & 0x5555, l);
    return store_paired(acc, some, a.padded_dim, a.acc + (size_t)query * a.padded_dim);
  }
  _mm512_mask_storeu_ps(a.m + query, lanes, m);
  _mm512_mask_storeu_ps(a.l + query, lanes, l);
  for (int d = 0; d < a.padded_dim; d += 16)
    store_columns((const uint8_t*)(acc + 16 * d), 16, some, a.acc + (size_t)query * a.padded_dim + d, a.padded_dim);
}

static void attn_split(const AttnSplitArgs& a) {
  const ColumnUnit unit;
  for (int query = 0; query < a.queries; query += 16)
    if (kPairedColumns && a.queries - query <= 8)
      attn_queries_of<kPairedColumns>(a, query);
    else
      attn_queries_of<false>(a, query);
}
