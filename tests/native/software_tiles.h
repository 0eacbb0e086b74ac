// Tile registers in software, so that the kernels of AMX run where AVX-512 BF16 is and AMX is not: the intrinsics that
// csrc/cpu/tiles*.inl use, from Intel's description of the instructions. An operand beyond the configuration, or a tile
// that is not configured, ends the program, as the processor would.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps

namespace test::tiles {

struct Tile {
  int rows = 0, row_bytes = 0;  // 0: not configured
  alignas(64) uint8_t data[16][64] = {};
};
inline thread_local Tile tile[8];

[[noreturn]] inline void fault(const char* what) {
  std::fprintf(stderr, "software tiles: %s\n", what);
  std::abort();
}
inline Tile& configured(int index) {
  if (tile[index].rows == 0) fault("a tile is used that is not configured");
  return tile[index];
}

inline void load_config(const void* from) {
  uint8_t bytes[64];
  std::memcpy(bytes, from, sizeof bytes);
  if (bytes[0] != 1 || bytes[1] != 0) fault("palette 1 and row 0 are what is expected");
  for (int i = 0; i < 8; ++i) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    if (row_bytes > 64 || bytes[48 + i] > 16) fault("a tile has at most 16 rows of 64 bytes");
    tile[i] = {};
    tile[i].rows = bytes[48 + i];
    tile[i].row_bytes = row_bytes;
  }
}
inline void release() {
  for (Tile& t : tile) t = {};
}
inline void zero(int to) { std::memset(configured(to).data, 0, sizeof tile[to].data); }
inline void load(int to, const void* from, size_t stride) {
  Tile& t = configured(to);
  std::memset(t.data, 0, sizeof t.data);
  for (int r = 0; r < t.rows; ++r) std::memcpy(t.data[r], static_cast<const uint8_t*>(from) + r * stride, t.row_bytes);
}
inline void store(int from, void* to, size_t stride) {
  const Tile& t = configured(from);
  for (int r = 0; r < t.rows; ++r) std::memcpy(static_cast<uint8_t*>(to) + r * stride, t.data[r], t.row_bytes);
}

inline float number(const uint8_t* bf16) {  // subnormals count as 0
  const uint32_t bits = static_cast<uint32_t>(bf16[0] | bf16[1] << 8) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return std::fabs(value) < 0x1p-126f ? 0.0f : value;
}
inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x; }

// C (M, N) += A (M, K pairs) B (K, N pairs): of an element the even and the odd places are summed, 16 terms each, then both
// together, then onto C.
inline void multiply(int c_index, int a_index, int b_index) {
  Tile &c = configured(c_index), &a = configured(a_index), &b = configured(b_index);
  if (a.rows != c.rows || b.row_bytes != c.row_bytes || a.row_bytes / 4 != b.rows) fault("the shapes of a product do not fit");
  for (int m = 0; m < c.rows; ++m)
    for (int n = 0; n < c.row_bytes / 4; ++n) {
      float even = 0, odd = 0, sum;
      for (int k = 0; k < b.rows; ++k) {
        even = flushed(std::fma(number(a.data[m] + 4 * k), number(b.data[k] + 4 * n), even));
        odd = flushed(std::fma(number(a.data[m] + 4 * k + 2), number(b.data[k] + 4 * n + 2), odd));
      }
      std::memcpy(&sum, c.data[m] + 4 * n, sizeof sum);
      sum = flushed(sum + flushed(even + odd));
      std::memcpy(c.data[m] + 4 * n, &sum, sizeof sum);
    }
}

}  // namespace test::tiles

#define _tile_loadconfig(from) ::test::tiles::load_config(from)
#define _tile_release() ::test::tiles::release()
#define _tile_zero(to) ::test::tiles::zero(to)
#define _tile_loadd(to, from, stride) ::test::tiles::load(to, from, stride)
#define _tile_stored(from, to, stride) ::test::tiles::store(from, to, stride)
#define _tile_dpbf16ps(c, a, b) ::test::tiles::multiply(c, a, b)
