// Attention on tile registers, for keys and values in bf16 and rounded queries: one key/value head, up to a split's
// pages, whose partial sums are merged page by page as attn_page does.
//
// Scores and outputs are products with the cache as A: (64 slots, dims) queries, then (dims, 64 slots) weights. So
// queries are columns: 16 of them are the lanes of all that lies between, and none depends on its neighbours.
//
// Order of sums: as products, over 32 dims and over 32 slots at a time; the softmax's denominator over the slots,
// ascending, in four chains.
//
// Included after tiles.inl, in the same namespace.

constexpr int kSlotTiles = kPage / 16, kSlotSteps = kPage / kTileK;

// Queries (queries, head_dim) that are bf16 already -> columns, 16 at a time.
static void attn_columns(const float* q, int queries, int head_dim, void* to) {
  const int steps = (head_dim + kTileK - 1) / kTileK;
  for (int first = 0; first < queries; first += 16)
    for (int step = 0; step < steps; ++step) {
      V rows[16];
      for (int i = 0; i < 16; ++i) {
        const int left = head_dim - step * kTileK;
        const __mmask16 low = first + i >= queries ? 0 : left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        const __mmask16 high = first + i >= queries || left <= 16 ? 0
                               : left >= 32                       ? 0xffff
                                                                  : (__mmask16)((1u << (left - 16)) - 1);
        const float* p = q + (size_t)(first + i) * head_dim + step * kTileK;
        rows[i] = _mm512_castsi512_ps(high_halves(_mm512_maskz_loadu_ps(low, p), _mm512_maskz_loadu_ps(high, p + 16)));
      }
      transpose(rows);
      for (int i = 0; i < 16; ++i)
        store((float*)to + ((size_t)first / 16 * steps + step) * kTileBytes / sizeof(float) + 16 * i, rows[i]);
    }
}

// (64 slots, 16 queries) scores -> softmax weights as columns of bf16 pairs; the maximum and the sum of each query.
static inline void attn_weights(const float* scores, V scale, __m512i first, __m512i last, uint8_t* columns, V* maximum,
                                V* total) {
  const V lowest = set1(-__builtin_inff());
  const auto score = [&](int slot) {
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
  for (int slot = 0; slot < kPage; slot += 4) {
    V w[4];
    for (int i = 0; i < 4; ++i) {
      w[i] = exp(sub(score(slot + i), base));
      l[i] = add(l[i], w[i]);
    }
    for (int i = 0; i < 4; i += 2) {
      const __m512i even = _mm512_srli_epi32(bf16_bits(w[i]), 16);
      const __m512i odd = _mm512_and_si512(bf16_bits(w[i + 1]), _mm512_set1_epi32((int)0xffff0000));
      _mm512_store_si512(columns + (slot + i) / 2 * 64, _mm512_or_si512(even, odd));
    }
  }
  *maximum = highest;
  *total = add(add(l[0], l[1]), add(l[2], l[3]));
}

// out (dims, 16 queries): four tiles of 16 dims at a time.
static inline void attn_outputs(const uint8_t* values, int dims, const uint8_t* columns, uint8_t* out) {
  for (int d = 0; d < dims; d += 64) {
    const int tiles = (dims - d) / 16;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < kSlotSteps; ++step) {
      const uint8_t* a = values + (size_t)d * kPage * 2 + step * 64;
      _tile_loadd(6, columns + step * kTileBytes, 64);
      _tile_loadd(4, a, kPage * 2);
      _tile_dpbf16ps(0, 4, 6);
      if (tiles > 1) {
        _tile_loadd(5, a + 16 * kPage * 2, kPage * 2);
        _tile_dpbf16ps(1, 5, 6);
      }
      if (tiles > 2) {
        _tile_loadd(4, a + 32 * kPage * 2, kPage * 2);
        _tile_dpbf16ps(2, 4, 6);
      }
      if (tiles > 3) {
        _tile_loadd(5, a + 48 * kPage * 2, kPage * 2);
        _tile_dpbf16ps(3, 5, 6);
      }
    }
    uint8_t* c = out + d * 64;
    _tile_stored(0, c, 64);
    if (tiles > 1) _tile_stored(1, c + kTileBytes, 64);
    if (tiles > 2) _tile_stored(2, c + 2 * kTileBytes, 64);
    if (tiles > 3) _tile_stored(3, c + 3 * kTileBytes, 64);
  }
}

static void attn_split(const AttnSplitArgs& a) {
  const int key_steps = (a.head_dim + kTileK - 1) / kTileK, key_bytes = key_steps * 2 * kTileK;
  uint8_t* const columns = (uint8_t*)a.scratch;             // (32 pairs of slots, 16)
  float* const scores = a.scratch + 2 * kTileBytes / 4;     // (64, 16)
  float* const out = scores + 4 * kTileBytes / 4;           // (padded_dim, 16)
  float* const acc = out + 16 * a.padded_dim;               // (padded_dim, 16)
  uint8_t* const seen_values = (uint8_t*)(acc + 16 * a.padded_dim);  // (padded_dim, 64)
  configure_tiles(kTileColumns);
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
      const uint8_t* keys = a.page[page];
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int step = 0; step < key_steps; ++step) {
        const uint8_t* k = keys + step * 64;
        _tile_loadd(6, q + step * kTileBytes, 64);
        _tile_loadd(4, k, key_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, k + 16 * key_bytes, key_bytes);
        _tile_dpbf16ps(1, 5, 6);
        _tile_loadd(4, k + 32 * key_bytes, key_bytes);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(5, k + 48 * key_bytes, key_bytes);
        _tile_dpbf16ps(3, 5, 6);
      }
      store_sums<4>((uint8_t*)scores);
      V m2, l2;
      attn_weights(scores, set1(a.scale), first, last, columns, &m2, &l2);

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
      attn_outputs(values, a.padded_dim, columns, (uint8_t*)out);

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
      store_tile((const uint8_t*)(acc + 16 * d), 16, some, a.acc + (size_t)query * a.padded_dim + d, a.padded_dim);
  }
  _tile_release();
}
