// What matrix products on AMX tiles reach, beside the read bandwidth and the tile rate of the same run, and whether
// weights are better used from the file mapping or repacked. 20b shapes, random weights, a file in the page cache.
//
//   g++ -std=c++20 -O3 -ffp-contract=off -pthread -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mavx512vbmi -mfma -mf16c \
//     -mamx-tile -mamx-bf16 -Icsrc bench/native/tile_products.cpp -o tile_products && ./tile_products FILE
//
// FILE (2.3 GB) is written if it is not there. Results: bench/results/*-tile-products.md.
#include <immintrin.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "cpu/kernels.h"

#define GPTOSS_AVX512
#pragma GCC diagnostic ignored "-Wunused-function"
namespace gptoss::cpu::amx {
#include "cpu/kernels.inl"
#include "cpu/bf16_terms.inl"
#include "cpu/tiles.inl"

// The repack: the 16 rows of a tile side by side, 256 bytes of codes and then 16 scales. Four linear streams, which the
// processor fetches ahead by itself.
struct Mxfp4Repacked {
  static constexpr bool kInPlace = false;
  static constexpr int kRowBytes = 0;
  const uint8_t* weight;
  int tiles, rows;
  static constexpr int k = 0;
  static constexpr size_t row_bytes = 0;
  const uint8_t* at(int first, int tile) const { return weight + ((size_t)first / 16 * tiles + tile) * 272; }
  void half(int first, int tile, uint8_t* to) const {
    const uint8_t* p = at(first, tile);
    mxfp4_rows(p + first % 16 * 16, 16, p + 256 + first % 16, 1, to);
  }
};
}  // namespace gptoss::cpu::amx

using namespace gptoss::cpu;

namespace {

constexpr int kRows = 5760, kK = 2880, kMatrices = 128, kDenseRows = 201088, kTask = 64;
constexpr size_t kCodes = size_t{kRows} * kK / 2, kScales = size_t{kRows} * kK / 32, kMatrix = kCodes + kScales;
constexpr size_t kDense = size_t{kDenseRows} * kK * 2;

uint64_t seed = 1;
uint32_t random32() {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return static_cast<uint32_t>(seed >> 16);
}

const uint8_t* mapped(const char* path) {
  const size_t bytes = 8 + kMatrices * kMatrix + kDense;
  if (access(path, R_OK) != 0) {
    std::FILE* file = std::fopen(path, "wb");
    std::vector<uint8_t> block(kMatrix);
    std::fwrite(&seed, 1, 8, file);  // so that the rest lies at 8 modulo 16, as in the released files
    for (int m = 0; m < kMatrices; ++m) {
      for (size_t i = 0; i < kCodes; i += 4) *reinterpret_cast<uint32_t*>(&block[i]) = random32();
      for (size_t i = kCodes; i < kMatrix; ++i) block[i] = static_cast<uint8_t>(118 + random32() % 5);
      std::fwrite(block.data(), 1, kMatrix, file);
    }
    std::vector<uint16_t> row(kK);
    for (int r = 0; r < kDenseRows; ++r) {
      for (auto& x : row) x = static_cast<uint16_t>(0x3c00 | (random32() & 0x80ff));
      std::fwrite(row.data(), 2, kK, file);
    }
    std::fclose(file);
  }
  const int fd = open(path, O_RDONLY);
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  return data == MAP_FAILED ? nullptr : static_cast<const uint8_t*>(data) + 8;
}

double seconds(int threads, const std::function<void(int)>& body) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(body, t);
  body(0);
  for (auto& other : others) other.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Case {
  std::string name;
  double bytes, flops;
  std::function<void(int thread, int threads)> run;
  std::vector<double> times;
};

template <class T>
T* aligned(size_t count) {
  return static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return std::puts("expected the path of a scratch file of 2.3 GB"), 2;
  if (syscall(SYS_arch_prctl, 0x1023, 18) != 0) return std::puts("this system does not have AMX"), 1;
  const uint8_t* file = mapped(argv[1]);
  if (!file) return std::puts("the file could not be mapped"), 1;
  const uint8_t* dense = file + kMatrices * kMatrix;
  const int most = argc > 2 ? std::atoi(argv[2]) : 2, rounds = 7;

  // Activations in every form.
  constexpr int kTokens = 128;
  std::vector<float> x(kK);
  float* plain = aligned<float>(kK);
  std::vector<const float*> fast_rows, exact_rows, plain_rows(kTokens, plain);
  for (int t = 0; t < kTokens; ++t) {
    for (float& v : x) v = static_cast<float>(random32()) * 0x1p-31f - 1;
    float *fast = aligned<float>(kK), *exact = aligned<float>(kK * 2);
    amx::terms_pack(x.data(), nullptr, 1, kK, true, fast);
    amx::terms_pack(x.data(), nullptr, 1, kK, false, exact);
    fast_rows.push_back(fast);
    exact_rows.push_back(exact);
  }
  amx::pack(x.data(), nullptr, 1, kK, false, plain);
  uint8_t* panels[2];
  for (bool exact : {false, true}) {
    const size_t token_bytes = kK / 32 * size_t{exact ? 192 : 64};
    panels[exact] = aligned<uint8_t>(kTokens * token_bytes);
    for (int t = 0; t < kTokens; t += 16)
      amx::tile_panel((exact ? exact_rows : fast_rows).data() + t, 16, kK, exact, panels[exact] + t * token_bytes);
  }
  // Repacked copies of some matrices.
  constexpr int kRepacked = 64;
  uint8_t* repacked = aligned<uint8_t>(kRepacked * kMatrix);
  for (int m = 0; m < kRepacked; ++m) {
    const uint8_t *codes = file + m * kMatrix, *scales = codes + kCodes;
    uint8_t* to = repacked + m * kMatrix;
    for (int r = 0; r < kRows; r += 16)
      for (int tile = 0; tile < kK / 32; ++tile, to += 272)
        for (int i = 0; i < 16; ++i) {
          __builtin_memcpy(to + 16 * i, codes + (r + i) * size_t{kK / 2} + tile * 16, 16);
          to[256 + i] = scales[(r + i) * size_t{kK / 32} + tile];
        }
  }
  struct Own {
    float *scratch, *y;
  };
  std::vector<Own> own;
  for (int t = 0; t < most; ++t) own.push_back({aligned<float>(dot_scratch_floats(kK)), aligned<float>(kTokens * kTask)});

  // Every thread takes every threads-th task of 64 rows.
  using Dot = void (*)(const DotArgs&);
  const auto experts = [&](Dot dot, int matrices, int tokens, bool exact, bool floats) {
    return [=](int thread, int threads) {
      for (int m = 0; m < matrices; ++m)
        for (int task = (thread + m) % threads; task < kRows / kTask; task += threads) {
          const uint8_t* w = file + m * kMatrix;
          const int row = task * kTask;
          const bool more = row + threads * kTask < kRows;
          dot({.weight = w + row * size_t{kK / 2}, .scales = w + kCodes + row * size_t{kK / 32}, .row_bytes = kK / 2,
               .scale_bytes = kK / 32, .rows = kTask, .k = kK,
               .x = floats ? plain_rows.data() : (exact ? exact_rows : fast_rows).data(), .panel = panels[exact],
               .exact = exact, .tokens = tokens, .y = own[thread].y, .y_stride = kTask, .scratch = own[thread].scratch,
               .next = more ? w + (row + threads * kTask) * size_t{kK / 2} : nullptr});
        }
    };
  };
  const auto dense_rows = [&](Dot dot, int rows, int tokens, bool exact, bool floats) {
    return [=](int thread, int threads) {
      for (int row = thread * kTask; row + kTask <= rows; row += threads * kTask)
        dot({.weight = dense + row * size_t{kK * 2}, .scales = nullptr, .row_bytes = kK * 2, .scale_bytes = 0, .rows = kTask,
             .k = kK, .x = floats ? plain_rows.data() : (exact ? exact_rows : fast_rows).data(), .panel = panels[exact],
             .exact = exact, .tokens = tokens, .y = own[thread].y, .y_stride = kTask, .scratch = own[thread].scratch,
             .next = row + threads * kTask < kDenseRows ? dense + (row + threads * kTask) * size_t{kK * 2} : nullptr});
    };
  };
  const auto repacked_experts = [&](bool exact) {
    return [=](int thread, int threads) {
      for (int m = 0; m < kRepacked; ++m)
        for (int task = (thread + m) % threads; task < kRows / kTask; task += threads) {
          const amx::Mxfp4Repacked tiles{repacked + m * kMatrix + task * size_t{kTask / 16 * kK / 32 * 272}, kK / 32, kTask};
          const bool more = task + threads < kRows / kTask;
          amx::narrow(tiles, {.weight = nullptr, .scales = nullptr, .row_bytes = 0, .scale_bytes = 0, .rows = kTask,
                              .k = kK, .x = (exact ? exact_rows : fast_rows).data(), .panel = nullptr, .exact = exact,
                              .tokens = 1, .y = own[thread].y, .y_stride = kTask, .scratch = own[thread].scratch,
                              .next = more ? tiles.at(threads * kTask, 0) : nullptr});
        }
    };
  };
  volatile float sink = 0;
  std::printf("| threads | case | GB/s | of read | TFLOP/s | of tiles | spread |\n|--:|---|--:|--:|--:|--:|---|\n");
  for (int threads = 1; threads <= most; ++threads) {
    std::vector<Case> cases;
    const double all = double(kMatrices) * kMatrix, flops = 2.0 * kRows * kK * kMatrices;
    long tile_flops = 0, fma_flops = 0;
    amx::tile_multiply_add(1, &tile_flops);
    amx::multiply_add(1, &fma_flops);
    cases.push_back({"read, four streams", all, 0, [&](int t, int n) {
                       sink = amx::read_sum(file + size_t(all) / n / 64 * 64 * t, size_t(all) / n);
                     }, {}});
    cases.push_back({"tiles, registers only", 0, double(tile_flops) * 1000000 * threads, [&](int, int) {
                       long n;
                       sink = amx::tile_multiply_add(1000000, &n);
                     }, {}});
    cases.push_back({"f32 FMA, registers only", 0, double(fma_flops) * 10000000 * threads, [&](int, int) {
                       long n;
                       sink = amx::multiply_add(10000000, &n);
                     }, {}});
    cases.push_back({"GEMV MXFP4 mapped, AVX-512 f32", all, flops, experts(amx::dot_mxfp4, kMatrices, 1, false, true), {}});
    cases.push_back({"GEMV MXFP4 mapped, tiles fast", all, flops, experts(amx::tile_dot_mxfp4, kMatrices, 1, false, false), {}});
    cases.push_back({"GEMV MXFP4 mapped, tiles exact", all, flops, experts(amx::tile_dot_mxfp4, kMatrices, 1, true, false), {}});
    cases.push_back({"GEMV MXFP4 repacked, tiles fast", all / 2, flops / 2, repacked_experts(false), {}});
    cases.push_back({"GEMV MXFP4 repacked, tiles exact", all / 2, flops / 2, repacked_experts(true), {}});
    const double dense_flops = 2.0 * kDenseRows * kK;
    cases.push_back({"GEMV bf16 mapped, AVX-512 f32", double(kDense), dense_flops, dense_rows(amx::dot_bf16, kDenseRows, 1, false, true), {}});
    cases.push_back({"GEMV bf16 mapped, tiles fast", double(kDense), dense_flops, dense_rows(amx::tile_dot_bf16, kDenseRows, 1, false, false), {}});
    cases.push_back({"GEMV bf16 mapped, tiles exact", double(kDense), dense_flops, dense_rows(amx::tile_dot_bf16, kDenseRows, 1, true, false), {}});
    for (bool exact : {false, true})
      for (int tokens : {4, 16, 64, 128}) {
        const int matrices = tokens > 64 || exact ? kMatrices / 4 : kMatrices / 2;
        if (exact && tokens > 64) continue;  // more are cut to pieces of 64
        cases.push_back({"GEMM MXFP4, " + std::to_string(tokens) + " tokens, " + (exact ? "exact" : "fast"),
                         double(matrices) * kMatrix, 2.0 * kRows * kK * matrices * tokens,
                         experts(amx::tile_dot_mxfp4, matrices, tokens, exact, false), {}});
      }
    const int rows = 32768;
    for (bool exact : {false, true}) {
      const int tokens = exact ? 64 : 128;
      cases.push_back({"GEMM bf16, " + std::to_string(tokens) + " tokens, " + (exact ? "exact" : "fast"), 2.0 * rows * kK,
                       2.0 * rows * kK * tokens, dense_rows(amx::tile_dot_bf16, rows, tokens, exact, false), {}});
    }
    for (int round = 0; round < rounds; ++round)
      for (Case& c : cases) c.times.push_back(seconds(threads, [&](int t) { c.run(t, threads); }));
    double read = 0, tiles = 0;
    for (Case& c : cases) {
      std::sort(c.times.begin(), c.times.end());
      const double middle = c.times[rounds / 2], gb = c.bytes / middle / 1e9, tf = c.flops / middle / 1e12;
      if (&c == &cases[0]) read = gb;
      if (&c == &cases[1]) tiles = tf;
      std::printf("| %d | %s | %.1f | %.0f %% | %.2f | %.0f %% | -%.0f/+%.0f %% |\n", threads, c.name.c_str(), gb,
                  100 * gb / read, tf, tiles > 0 ? 100 * tf / tiles : 0, 100 * (1 - c.times[1] / middle),
                  100 * (c.times[rounds - 2] / middle - 1));
      std::fflush(stdout);
    }
  }
}
