// What the native tests share: CHECK, which reports and goes on; memory that notices a step beyond its end;
// and a small random generator, the same on every machine.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace test {

inline std::atomic<int> failures{0};

// Call at the end of main().
inline int finish(const char* name) {
  if (failures) {
    std::printf("%s: %d checks FAILED\n", name, failures.load());
    return 1;
  }
  std::printf("%s: passed\n", name);
  return 0;
}

#define CHECK(condition, ...)                                              \
  do {                                                                     \
    if (!(condition) && ++test::failures <= 25) {                          \
      std::printf("%s:%d: expected %s: ", __FILE__, __LINE__, #condition); \
      std::printf(__VA_ARGS__);                                            \
      std::printf("\n");                                                   \
    }                                                                      \
  } while (0)

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint64_t bits() {  // splitmix64
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int below(int n) { return static_cast<int>(bits() % static_cast<uint64_t>(n)); }
  // Of about standard deviation 1: a sum of uniform numbers.
  float normal() {
    double sum = 0;
    for (int i = 0; i < 6; ++i) sum += static_cast<double>(bits() >> 11) * 0x1p-53 - 0.5;
    return static_cast<float>(sum * 1.4142135623730951);
  }

 private:
  uint64_t state_;
};

// An array before a page that nobody may touch, so that a read beyond its end is a segmentation fault with
// or without a sanitizer. `misalign` is the address of the first byte modulo 16; unless it is what the size
// makes of it anyway, up to 15 bytes lie between the array and the fence.
template <class T>
class Fenced {
 public:
  explicit Fenced(size_t count, size_t misalign = 0) : count_(count) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = count * sizeof(T);
    mapped_ = (bytes + 16 + page - 1) / page * page + page;
    void* block = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) std::abort();
    base_ = static_cast<uint8_t*>(block);
    uint8_t* fence = base_ + mapped_ - page;
    if (mprotect(fence, page, PROT_NONE) != 0) std::abort();
    uint8_t* first = fence - bytes;
    while (reinterpret_cast<uintptr_t>(first) % 16 != misalign) --first;
    data_ = reinterpret_cast<T*>(first);
  }
  ~Fenced() { munmap(base_, mapped_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  size_t count_, mapped_;
  uint8_t* base_;
  T* data_;
};

// Floats for a kernel to write: not-a-number before, and between and around the places that it may write a
// pattern that must survive.
class Output {
 public:
  // `rows` runs of `width` floats, `stride` apart.
  Output(size_t rows, size_t width, size_t stride)
      : rows_(rows), width_(width), stride_(stride), cells_(2 * kGuard + rows * stride) {
    for (size_t i = 0; i < cells_.size(); ++i) cells_[i] = pattern();
    for (size_t r = 0; r < rows; ++r)
      for (size_t i = 0; i < width; ++i) row(r)[i] = std::numeric_limits<float>::quiet_NaN();
  }
  float* data() { return cells_.data() + kGuard; }
  float* row(size_t r) { return data() + r * stride_; }
  bool intact() {
    for (size_t i = 0; i < cells_.size(); ++i) {
      const size_t at = i - kGuard;
      const bool inside = i >= kGuard && at < rows_ * stride_ && at % stride_ < width_;
      if (!inside && bits_of(cells_[i]) != bits_of(pattern())) return false;
    }
    return true;
  }

  static uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
  }

 private:
  static constexpr size_t kGuard = 32;
  static float pattern() { return -1.2345e30f; }
  size_t rows_, width_, stride_;
  Fenced<float> cells_;
};

// Scratch memory as a kernel may find it.
class Scratch {
 public:
  explicit Scratch(size_t count) : cells_(count) {
    for (size_t i = 0; i < count; ++i) cells_[i] = std::numeric_limits<float>::quiet_NaN();
  }
  float* data() { return cells_.data(); }

 private:
  Fenced<float> cells_;
};

// Where packed activations have the number of place `i`: in groups of 32 the 16 at even places, then the odd ones.
inline size_t packed_place(int i) { return static_cast<size_t>(i / 32 * 32 + i % 2 * 16 + i % 32 / 2); }

inline bool same_bits(float a, float b) { return Output::bits_of(a) == Output::bits_of(b); }

}  // namespace test
