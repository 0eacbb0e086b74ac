// The kernels' bodies, once for every instruction set. See kernels.h for what they compute.
//
// Included by an ISA file inside its own namespace. Functions are static, the standard library is not used, and
// contraction is off: what is written is what is rounded, in every instantiation of a template. That is what
// makes a decode step equal a prefill bit for bit.

static const float kE2m1[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};

// 2^(scale - 127) by look-up: a load that broadcasts costs less than making the bits and moving them over.
struct E8m0Table {
  float value[256];
  constexpr E8m0Table() : value() {
    value[0] = __builtin_bit_cast(float, 0x00400000u);  // 2^-127 is a subnormal: a bare shift would give 0
    for (uint32_t scale = 1; scale < 256; ++scale) value[scale] = __builtin_bit_cast(float, scale << 23);
  }
};
static constexpr E8m0Table kE8m0;

// The first N values of kE2m1 times each of these.
template <int N>
struct Mxfp4Table {
  alignas(64) float value[256][N];
  constexpr Mxfp4Table() : value() {
    for (int scale = 0; scale < 256; ++scale)
      for (int code = 0; code < N; ++code) {
        const double exact = kE2m1[code] * (scale < 255 ? (double)kE8m0.value[scale] : 0.0);
        const float largest = 3.40282347e38f;
        value[scale][code] = scale == 255        ? __builtin_nanf("")
                             : exact > largest   ? __builtin_inff()
                             : exact < -largest  ? -__builtin_inff()
                                                 : (float)exact;
      }
  }
};

#include "vec.h"

constexpr int kHalf = kPackGroup / 2;
constexpr int kChunks = kHalf / kLanes;  // registers per half group
#if defined(GPTOSS_AVX512) || defined(GPTOSS_NEON)  // 32 registers, else 16
constexpr int kTileKeys = 4;
#else
constexpr int kTileKeys = 2;
#endif

static inline float bf16(uint16_t half) {
  const uint32_t bits = (uint32_t)half << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float round_one(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000u;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

static inline int packed_index(int k) { return k / kPackGroup * kPackGroup + (k & 1) * kHalf + k % kPackGroup / 2; }

// e^x to 1-2 ulp; 0 below -87, e^88 above 88. 2^n times a polynomial on [-ln2/2, ln2/2].
static inline V exp(V unclamped) {
  const V x = min(set1(88.0f), max(set1(-87.0f), unclamped));  // in this order a NaN stays one
  const V n = round_nearest(mul(x, set1(1.44269504f)));
  V r = fma(n, set1(-0.693145752f), x);  // ln 2 in two parts: the first product is exact
  r = fma(n, set1(-1.42860677e-6f), r);
  V p = set1(1.3888889e-3f);
  p = fma(p, r, set1(8.3333338e-3f));
  p = fma(p, r, set1(4.1666668e-2f));
  p = fma(p, r, set1(1.6666667e-1f));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return zero_below(mul(p, exp2_whole(n)), unclamped, set1(-87.0f));
}

static inline float exp_one(float x) {
  float lanes[kLanes];
  store(lanes, exp(set1(x)));
  return lanes[0];
}

#include "products.inl"

// ---- attention ---------------------------------------------------------------------------------------------

static inline V load_kv(const float* p) { return load(p); }
static inline V load_kv(const uint16_t* p) { return load_bf16(p); }

constexpr int kPage = 64;
constexpr int kScoreBlock = 16;  // dims that are summed as one chain: a score of 20 loses less to rounding

// scores(q, slot) = scale * sum over d ascending of q(q, d) * keys(d, slot)
template <int Q, class T>
static inline void attn_scores(const float* q, const AttnPageArgs& a, float* scores) {
  for (int slot = 0; slot < kPage; slot += kTileKeys * kLanes) {
    const T* keys = (const T*)a.keys + slot;
    for (int first = 0; first < a.head_dim; first += kScoreBlock) {
      const int last = first + kScoreBlock < a.head_dim ? first + kScoreBlock : a.head_dim;
      V acc[Q][kTileKeys];
      for (int i = 0; i < Q; ++i)
        for (int j = 0; j < kTileKeys; ++j) acc[i][j] = zero();
      for (int d = first; d < last; ++d) {
        V key[kTileKeys];
        for (int j = 0; j < kTileKeys; ++j) key[j] = load_kv(keys + d * kPage + j * kLanes);
        for (int i = 0; i < Q; ++i) {
          const V qd = set1(q[i * a.head_dim + d]);
          for (int j = 0; j < kTileKeys; ++j) acc[i][j] = fma(qd, key[j], acc[i][j]);
        }
      }
      for (int i = 0; i < Q; ++i)
        for (int j = 0; j < kTileKeys; ++j) {
          float* out = scores + i * kPage + slot + j * kLanes;
          const V sum = first == 0 ? acc[i][j] : add(load(out), acc[i][j]);
          store(out, last == a.head_dim ? mul(sum, set1(a.scale)) : sum);
        }
    }
  }
}

// out(q, d) = sum over slots [first, last) ascending of weights(q, slot) * values(slot, d)
template <int Q, int N, class T>
static inline void attn_values_tile(const float* weights, const T* values, int stride, int first, int last, float* out) {
  V acc[Q][N];
  for (int i = 0; i < Q; ++i)
    for (int n = 0; n < N; ++n) acc[i][n] = zero();
  for (int slot = first; slot < last; ++slot) {
    V value[N];
    for (int n = 0; n < N; ++n) value[n] = load_kv(values + slot * stride + n * kLanes);
    for (int i = 0; i < Q; ++i) {
      const V w = set1(weights[i * kPage + slot]);
      for (int n = 0; n < N; ++n) acc[i][n] = fma(w, value[n], acc[i][n]);
    }
  }
  for (int i = 0; i < Q; ++i)
    for (int n = 0; n < N; ++n) store(out + i * stride + n * kLanes, acc[i][n]);
}

template <int Q, class T>
static inline void attn_values(const float* weights, const AttnPageArgs& a, int first, int last, float* out) {
  int d = 0;
  for (; d + kTileKeys * kLanes <= a.padded_dim; d += kTileKeys * kLanes)
    attn_values_tile<Q, kTileKeys>(weights, (const T*)a.values + d, a.padded_dim, first, last, out + d);
  for (; d < a.padded_dim; d += kLanes)
    attn_values_tile<Q, 1>(weights, (const T*)a.values + d, a.padded_dim, first, last, out + d);
}

static void attn_merge(float* m, float* l, float* acc, float m2, float l2, const float* acc2, int n) {
  if (l2 == 0.0f) return;  // nothing was visible there
  const float highest = *m > m2 ? *m : m2;
  const float keep = exp_one(*m - highest), take = exp_one(m2 - highest);
  *m = highest;
  *l = *l * keep + l2 * take;
  for (int i = 0; i < n; i += kLanes)
    store(acc + i, add(mul(load(acc + i), set1(keep)), mul(load(acc2 + i), set1(take))));
}

static void attn_finish(float* m, float* l, float* acc, float sink, int n) {
  const float highest = *m > sink ? *m : sink;
  const float keep = exp_one(*m - highest);
  *l = *l * keep + exp_one(sink - highest);
  *m = highest;
  const float factor = keep / *l;
  for (int i = 0; i < n; i += kLanes) store(acc + i, mul(load(acc + i), set1(factor)));
}

// scores (64) -> softmax weights of the visible slots, 0 elsewhere; their maximum and their sum.
static inline void attn_softmax(float* scores, int first, int last, bool round, float* maximum, float* total) {
  const float lowest = -__builtin_inff();
  for (int slot = 0; slot < first; ++slot) scores[slot] = lowest;
  for (int slot = last; slot < kPage; ++slot) scores[slot] = lowest;
  V highest = load(scores);
  for (int slot = kLanes; slot < kPage; slot += kLanes) highest = max(highest, load(scores + slot));
  float lanes[kLanes];
  store(lanes, highest);
  float m = lanes[0];
  for (int i = 1; i < kLanes; ++i) m = lanes[i] > m ? lanes[i] : m;
  for (int slot = 0; slot < kPage; slot += kLanes) store(scores + slot, exp(sub(load(scores + slot), set1(m))));
  V l = load(scores);
  for (int slot = kLanes; slot < kPage; slot += kLanes) l = add(l, load(scores + slot));
  *maximum = m;
  *total = sum(l);
  if (round)
    for (int slot = 0; slot < kPage; slot += kLanes) store(scores + slot, round_bf16(load(scores + slot)));
}

template <int Q, class T>
static inline void attn_queries(const AttnPageArgs& a, int q) {
  float* scores = a.scratch;
  float* out = a.scratch + Q * kPage;
  int first = kPage, last = 0;
  float m[Q], l[Q];
  attn_scores<Q, T>(a.q + (size_t)q * a.head_dim, a, scores);
  for (int i = 0; i < Q; ++i) {
    attn_softmax(scores + i * kPage, a.first[q + i], a.last[q + i], a.round_weights, &m[i], &l[i]);
    first = a.first[q + i] < first ? a.first[q + i] : first;
    last = a.last[q + i] > last ? a.last[q + i] : last;
  }
  attn_values<Q, T>(scores, a, first, last, out);
  for (int i = 0; i < Q; ++i)
    if (a.first[q + i] < a.last[q + i])
      attn_merge(a.m + q + i, a.l + q + i, a.acc + (size_t)(q + i) * a.padded_dim, m[i], l[i], out + i * a.padded_dim,
                 a.padded_dim);
}

template <class T>
static inline void attn_all(const AttnPageArgs& a) {
  int q = 0;
  for (; q + kAttnTile <= a.queries; q += kAttnTile) attn_queries<kAttnTile, T>(a, q);
  for (; q + 2 <= a.queries; q += 2) attn_queries<2, T>(a, q);
  if (q < a.queries) attn_queries<1, T>(a, q);
}

static void attn_page(const AttnPageArgs& a) {
  if (a.bf16)
    attn_all<uint16_t>(a);
  else
    attn_all<float>(a);
}

// ---- elementwise -------------------------------------------------------------------------------------------

static float sum_squares(const float* x, int n) {
  V acc = zero();
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) acc = fma(load(x + i), load(x + i), acc);
  float total = sum(acc);
  for (; i < n; ++i) total = total + x[i] * x[i];
  return total;
}

static inline V scaled(const float* x, const float* gain, float scale) {
  const V y = mul(load(x), set1(scale));
  return gain ? mul(y, load(gain)) : y;
}

static void pack(const float* x, const float* gain, float scale, int n, bool round, float* packed) {
  int i = 0;
  for (; i + kPackGroup <= n; i += kPackGroup)
    for (int c = 0; c < kChunks; ++c) {
      const int at = i + c * 2 * kLanes;
      V even, odd;
      deinterleave(scaled(x + at, gain ? gain + at : gain, scale),
                   scaled(x + at + kLanes, gain ? gain + at + kLanes : gain, scale), even, odd);
      store(packed + i + c * kLanes, round ? round_bf16(even) : even);
      store(packed + i + kHalf + c * kLanes, round ? round_bf16(odd) : odd);
    }
  if (i == n) return;
  for (int j = 0; j < kPackGroup; ++j) packed[i + j] = 0;
  for (; i < n; ++i) {
    const float y = gain ? x[i] * scale * gain[i] : x[i] * scale;
    packed[packed_index(i)] = round ? round_one(y) : y;
  }
}

// gate and up of kLanes neurons -> gate * sigmoid(alpha * gate) * (up + 1), both clamped (gate from above only)
static inline V swiglu(const float* u, const uint16_t* bias, V limit, V alpha) {
  V gate, up;
  deinterleave(add(load(u), load_bf16(bias)), add(load(u + kLanes), load_bf16(bias + kLanes)), gate, up);
  gate = min(limit, gate);
  up = max(sub(zero(), limit), min(limit, up));
  const V sigmoid = div(set1(1.0f), add(set1(1.0f), exp(mul(sub(zero(), alpha), gate))));
  return mul(mul(gate, sigmoid), add(up, set1(1.0f)));
}

static void swiglu_pack(const float* u, const uint16_t* bias, int n, float limit, float alpha, bool round, float* packed) {
  float h[kPackGroup];
  for (int i = 0; i < n; i += kPackGroup) {
    for (int j = 0; j < kPackGroup; j += kLanes)
      store(h + j, swiglu(u + 2 * (i + j), bias + 2 * (i + j), set1(limit), set1(alpha)));
    pack(h, nullptr, 1.0f, kPackGroup, round, packed + i);
  }
}

// ---- ceilings ----------------------------------------------------------------------------------------------

static float read_sum(const void* data, size_t bytes) {
  const float* p = (const float*)data;
  const size_t quarter = bytes / sizeof(float) / 4 / kLanes * kLanes;
  V a = zero(), b = zero(), c = zero(), d = zero();
  for (size_t i = 0; i < quarter; i += kLanes) {  // four streams: what the weight rows look like to the memory
    a = add(a, load(p + i));
    b = add(b, load(p + quarter + i));
    c = add(c, load(p + 2 * quarter + i));
    d = add(d, load(p + 3 * quarter + i));
  }
  return sum(add(add(a, b), add(c, d)));
}

static float multiply_add(long iterations, long* flops) {
  constexpr int kChains = 12;  // latency 4, two a cycle, and some to spare
  V acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = set1((float)i);
  const V x = set1(0.999f), y = set1(0.001f);
  for (long n = 0; n < iterations; ++n)
    for (int i = 0; i < kChains; ++i) acc[i] = fma(acc[i], x, y);
  *flops = iterations * kChains * kLanes * 2;
  V total = zero();
  for (int i = 0; i < kChains; ++i) total = add(total, acc[i]);
  return sum(total);
}
