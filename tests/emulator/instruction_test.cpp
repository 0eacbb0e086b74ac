// Single instructions and small idioms against their definitions, each over many schedules.
#include "gemm_case.h"
#include "gpu_vector.h"
#include "ptx/bits.cuh"
#include "ptx/copy_async.cuh"
#include "ptx/matrix.cuh"
#include "ptx/memory.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/wgmma.cuh"
#include "tensor_map.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;
using simt::launch;

double wrong_if(bool wrong) { return wrong ? 2 : 0; }

// --- Shuffles: every way, width and distance.

__global__ void shuffles(int* out, int width, int distance) {
  const int lane = threadIdx.x, value = 100 + lane;
  out[lane] = __shfl_sync(0xffffffffu, value, distance, width);
  out[32 + lane] = __shfl_up_sync(0xffffffffu, value, distance, width);
  out[64 + lane] = __shfl_down_sync(0xffffffffu, value, distance, width);
  out[96 + lane] = __shfl_xor_sync(0xffffffffu, value, distance, width);
}

double all_shuffles() {
  for (int width = 1; width <= 32; width *= 2)
    for (int distance = 0; distance < 32; distance += 5) {
      GpuVector<int> out(128);
      (void)launch(shuffles, {.grid = 1, .block = 32}, out.data(), width, distance);
      const std::vector<int> got = out.host();
      for (int lane = 0; lane < 32; ++lane) {
        const int base = lane / width * width, place = lane % width;
        const int up = place >= distance ? lane - distance : lane;
        const int down = place + distance < width ? lane + distance : lane;
        const int across = (lane ^ distance) < base + width ? lane ^ distance : lane;
        if (got[lane] != 100 + base + distance % width || got[32 + lane] != 100 + up ||
            got[64 + lane] != 100 + down || got[96 + lane] != 100 + across)
          return 2;
      }
    }
  return 0;
}

// --- Votes, matches, reductions, and a barrier that counts.

__global__ void votes(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  unsigned* mine = out + threadIdx.x * 6;
  mine[0] = __ballot_sync(0xffffffffu, lane % 3 == 0);
  mine[1] = __any_sync(0xffffffffu, lane == 7) + 2 * __all_sync(0xffffffffu, lane < 31);
  mine[2] = __match_any_sync(0xffffffffu, lane / 5);
  mine[3] = __reduce_add_sync(0xffffffffu, lane);
  mine[4] = static_cast<unsigned>(__reduce_min_sync(0xffffffffu, static_cast<int>(lane) - 10));
  mine[5] = static_cast<unsigned>(__syncthreads_count(threadIdx.x % 7 == 0));
}

double all_votes() {
  GpuVector<unsigned> out(64 * 6);
  (void)launch(votes, {.grid = 1, .block = 64}, out.data());
  const std::vector<unsigned> got = out.host();
  for (unsigned thread = 0; thread < 64; ++thread) {
    const unsigned lane = thread % 32, first = lane / 5 * 5, last = std::min(first + 5, 32u);
    unsigned ballot = 0, match = 0;
    for (unsigned i = 0; i < 32; ++i) ballot |= unsigned{i % 3 == 0} << i;
    for (unsigned i = first; i < last; ++i) match |= 1u << i;
    const unsigned expected[] = {ballot, 1, match, 496, static_cast<unsigned>(-10), 10};
    if (!std::equal(expected, expected + 6, got.begin() + thread * 6)) return 2;
  }
  return 0;
}

// --- Atomics: counts, extremes, and a lock.

__global__ void atomics(unsigned* counts, int* extremes, unsigned* lock, float* guarded) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&counts[i % 3], 1u);
  atomicMax(&extremes[0], i);
  atomicMin(&extremes[1], -i);
  if (threadIdx.x % 32 != 0) return;
  while (atomicCAS(lock, 0u, 1u) != 0u) continue;
  __threadfence();
  *guarded = *guarded + 1;  // plain: the lock is what protects it
  __threadfence();
  atomicExch(lock, 0u);
}

// Counts that stay what they are: a loop that ends, though it looks at one place like one that waits.
__global__ void nothing_added(unsigned* count) {
  for (int round = 0; round < 500; ++round) atomicAdd(count, 0u);
}

double all_that_add_nothing() {
  GpuVector<unsigned> count(std::vector<unsigned>(1));
  (void)launch(nothing_added, {.grid = 3, .block = 64}, count.data());
  return wrong_if(count.host()[0] != 0);
}

double all_atomics() {
  GpuVector<unsigned> counts(std::vector<unsigned>(3, 0u)), lock(std::vector<unsigned>(1, 0u));
  GpuVector<int> extremes(std::vector<int>(2, 0));
  GpuVector<float> guarded(std::vector<float>(1, 0.0f));
  (void)launch(atomics, {.grid = 3, .block = 64}, counts.data(), extremes.data(), lock.data(),
               guarded.data());
  return wrong_if(counts.host() != std::vector<unsigned>{64, 64, 64} ||
                  extremes.host() != std::vector<int>{191, -191} || guarded.host()[0] != 6);
}

// --- A block that waits for another one's flag, in three ways.

enum class Flag { kVolatile, kAcquire, kNoFence };
template <Flag kFlag>
__global__ void handover(float* data, uint32_t* flag, float* out) {
  if (blockIdx.x == 1) {
    data[threadIdx.x] = 7;
    if (kFlag != Flag::kNoFence) __threadfence();
    __syncthreads();
    if (threadIdx.x != 0) return;
    if (kFlag == Flag::kAcquire)
      ptx::store_release(flag, 1);
    else
      *const_cast<volatile uint32_t*>(flag) = 1;
  } else {
    if (kFlag == Flag::kAcquire) {
      while (ptx::load_acquire(flag) == 0) continue;
    } else {
      while (*const_cast<volatile uint32_t*>(flag) == 0) continue;
      __threadfence();
    }
    out[threadIdx.x] = data[threadIdx.x];
  }
}
template <Flag kFlag>
double handovers() {
  GpuVector<float> data(32), out(32);
  GpuVector<uint32_t> flag(std::vector<uint32_t>(1, 0u));
  (void)launch(handover<kFlag>, {.grid = 2, .block = 32}, data.data(), flag.data(), out.data());
  return wrong_if(out.host() != std::vector<float>(32, 7.0f));
}

// --- A barrier of the whole grid, by a counter, three times.

__global__ void three_rounds(float* x, float* y, unsigned* arrived) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, count = gridDim.x * blockDim.x;
  for (unsigned round = 0; round < 3; ++round) {
    (round % 2 ? x : y)[i] = (round % 2 ? y : x)[(i + 32) % count] + 1;
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(arrived, 1u);
      while (atomicAdd(arrived, 0u) < (round + 1) * gridDim.x) continue;
      __threadfence();
    }
    __syncthreads();
  }
}
double grid_barriers() {
  GpuVector<float> x(std::vector<float>(128, 1.0f)), y(128);
  GpuVector<unsigned> arrived(std::vector<unsigned>(1, 0u));
  (void)launch(three_rounds, {.grid = 4, .block = 32}, x.data(), y.data(), arrived.data());
  return wrong_if(y.host() != std::vector<float>(128, 4.0f));
}

// --- prmt and lop3

__global__ void bits(uint32_t* out) {
  out[0] = ptx::prmt(0x83828180u, 0x07060504u, 0x7531u);
  out[1] = ptx::prmt(0x83827f80u, 0x07060504u, 0xc198u);  // signs of bytes 4, 9 - 8 = 1 and 0; byte 1
  out[2] = ptx::lop3<(0xf0 & 0xcc) ^ 0xaa>(0x12345678u, 0xff00ff00u, 0x0f0f0f0fu);
}
double all_bits() {
  GpuVector<uint32_t> out(3);
  (void)launch(bits, {.grid = 1, .block = 1}, out.data());
  return wrong_if(out.host() !=
                  std::vector<uint32_t>{0x07058381u, 0x007f00ffu, (0x12345678u & 0xff00ff00u) ^ 0x0f0f0f0fu});
}

// --- ldmatrix: matrix i has element 1000 i + 10 row + column.

__global__ void load_matrices(uint32_t* out) {
  alignas(16) __shared__ uint16_t matrices[4][8][8];
  const int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32)
    matrices[i / 64][i / 8 % 8][i % 8] = 1000 * (i / 64) + 10 * (i / 8 % 8) + i % 8;
  __syncwarp();
  uint32_t four[4], four_transposed[4], two[2], two_transposed[2];
  const void* row = matrices[lane / 8][lane % 8];
  ptx::ldmatrix_x4(four, row);
  ptx::ldmatrix_x4_trans(four_transposed, row);
  ptx::ldmatrix_x2(two, row);
  ptx::ldmatrix_x2_trans(two_transposed, row);
  for (int i = 0; i < 4; ++i) {
    out[(4 * lane + i) * 4] = four[i];
    out[(4 * lane + i) * 4 + 1] = four_transposed[i];
    out[(4 * lane + i) * 4 + 2] = two[i % 2];
    out[(4 * lane + i) * 4 + 3] = two_transposed[i % 2];
  }
}
double all_matrices() {
  GpuVector<uint32_t> out(512);
  (void)launch(load_matrices, {.grid = 1, .block = 32}, out.data());
  const std::vector<uint32_t> got = out.host();
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const auto at = [](int m, int r, int c) { return static_cast<uint32_t>(1000 * m + 10 * r + c); };
      const int row = lane / 4, column = lane % 4 * 2;
      const auto plain = [&](int m) { return at(m, row, column) | at(m, row, column + 1) << 16; };
      const auto transposed = [&](int m) { return at(m, column, row) | at(m, column + 1, row) << 16; };
      const uint32_t expected[] = {plain(i), transposed(i), plain(i % 2), transposed(i % 2)};
      if (!std::equal(expected, expected + 4, got.begin() + (4 * lane + i) * 4)) return 2;
    }
  return 0;
}

// --- movmatrix: element 10 row + column; two bf16 multiplied and added; copies of four bytes.

__global__ void small_ones(const uint32_t* in, uint32_t* out) {
  alignas(16) __shared__ uint32_t copied[32];
  const int lane = threadIdx.x, row = lane / 4, column = lane % 4 * 2;
  out[lane] = ptx::movmatrix_trans(static_cast<uint32_t>(10 * row + column) | static_cast<uint32_t>(10 * row + column + 1) << 16);
  // 3 times 2^-133, subnormal, and -0.5 times 2^126; both exact.
  out[32 + lane] = ptx::fma_bf16x2(0xbf000001u, 0x7e804040u, 0x80008000u);
  ptx::cp_async_4(copied + lane, in + 31 - lane);
  ptx::cp_async_commit_group();
  ptx::cp_async_wait_group<0>();
  out[64 + lane] = copied[lane];
}
double all_small_ones() {
  std::vector<uint32_t> values(32);
  for (uint32_t i = 0; i < 32; ++i) values[i] = 1000 + i;
  GpuVector<uint32_t> in(values), out(96);
  (void)launch(small_ones, {.grid = 1, .block = 32}, in.data(), out.data());
  const std::vector<uint32_t> got = out.host();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t row = lane / 4, column = lane % 4 * 2;
    if (got[lane] != ((10 * column + row) | (10 * (column + 1) + row) << 16) || got[32 + lane] != 0xfe000003u ||
        got[64 + lane] != 1031 - lane)
      return 2;
  }
  return 0;
}

// --- cvt to e4m3: every number of the format, what lies between two of them, and what is beyond.

__global__ void to_e4m3(const float* in, uint16_t* out) {
  const int i = threadIdx.x;
  out[i] = ptx::cvt_e4m3x2(in[i], -in[i]);
}
double e4m3_number(int code) { return code < 8 ? std::ldexp(code, -9) : std::ldexp(8 + code % 8, code / 8 - 10); }
double all_e4m3() {
  constexpr int kNumbers = 127, kOf = 4;  // itself; a tie; a bit below and above that
  std::vector<float> numbers;
  std::vector<int> codes;
  for (int code = 0; code < kNumbers; ++code) {
    const auto number = static_cast<float>(e4m3_number(code));
    const float tie = code < kNumbers - 1 ? static_cast<float>((e4m3_number(code) + e4m3_number(code + 1)) / 2) : 1e30f;
    const int above = std::min(code + 1, kNumbers - 1);
    for (const auto& [value, nearest] : {std::pair{number, code}, {tie, code % 2 ? above : code},
                                         {std::nextafter(tie, 0.0f), code}, {std::nextafter(tie, 1e38f), above}})
      numbers.push_back(value), codes.push_back(nearest);
  }
  numbers.push_back(NAN), codes.push_back(127), numbers.push_back(INFINITY), codes.push_back(126);
  GpuVector<float> in(numbers);
  GpuVector<uint16_t> out(numbers.size());
  static_assert(kNumbers * kOf + 2 <= 1024);
  (void)launch(to_e4m3, {.grid = 1, .block = dim3(static_cast<unsigned>(numbers.size()))}, in.data(), out.data());
  const std::vector<uint16_t> got = out.host();
  for (size_t i = 0; i < got.size(); ++i)
    if ((got[i] & 0x7f) != codes[i] || (got[i] >> 8 & 0x7f) != codes[i] || (!std::isnan(numbers[i]) && got[i] >> 15 != 1))
      return 2;
  return 0;
}

// --- mma.sync with block scaling: all bytes of the scales, of which those that are not asked for are not a number.

template <int kByteA, int kByteB>
__global__ void scaled_product(const uint8_t* a, const uint8_t* b, const uint8_t* a_scales, const uint8_t* b_scales, float* c) {
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  uint32_t a_words[4], b_words[2];
  for (int i = 0; i < 4; ++i) a_words[i] = *reinterpret_cast<const uint32_t*>(a + (g + i % 2 * 8) * 32 + i / 2 * 16 + 4 * t);
  for (int i = 0; i < 2; ++i) b_words[i] = *reinterpret_cast<const uint32_t*>(b + g * 32 + i * 16 + 4 * t);
  const auto only = [](int byte, uint32_t scale) { return ~(0xffu << (8 * byte)) | scale << (8 * byte); };
  const uint32_t of_a = t < 2 ? only(kByteA, a_scales[g + 8 * t]) : ~0u, of_b = t < 1 ? only(kByteB, b_scales[g]) : ~0u;
  float d[4] = {1, 1, 1, 1};
  ptx::mma_m16n8k32_e2m1_e4m3<kByteA, kByteB>(d, a_words, of_a, b_words, of_b);
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}
template <int kByteA, int kByteB>
double scaled_products() {
  constexpr double kMagnitude[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  emulator::Random random(kByteA * 4 + kByteB);
  std::vector<uint8_t> a(16 * 32), b(8 * 32), a_scales(16), b_scales(8);
  for (uint8_t& byte : a) byte = static_cast<uint8_t>(random.bits() % 16 << 2);
  for (uint8_t& byte : b) byte = static_cast<uint8_t>(random.bits() % 2 * 128 + random.bits() % 127);
  for (uint8_t& scale : a_scales) scale = static_cast<uint8_t>(120 + random.bits() % 10);
  for (uint8_t& scale : b_scales) scale = static_cast<uint8_t>(120 + random.bits() % 10);
  a_scales[3] = 0, b_scales[5] = 220;
  std::vector<double> expected(16 * 8), sizes(16 * 8);
  for (int r = 0; r < 16; ++r)
    for (int c = 0; c < 8; ++c) {
      double sum = 0, size = 0;
      for (int k = 0; k < 32; ++k) {
        const int code = a[r * 32 + k] >> 2, byte = b[c * 32 + k];
        const double product = kMagnitude[code & 7] * e4m3_number(byte & 127);
        sum += (code & 8 ? -1 : 1) * (byte & 128 ? -1 : 1) * product, size += product;
      }
      expected[r * 8 + c] = 1 + std::ldexp(sum, a_scales[r] + b_scales[c] - 254);
      sizes[r * 8 + c] = 1 + std::ldexp(size, a_scales[r] + b_scales[c] - 254);
    }
  GpuVector<uint8_t> to_a(a), to_b(b), to_a_scales(a_scales), to_b_scales(b_scales);
  GpuVector<float> c(expected.size());
  (void)launch(scaled_product<kByteA, kByteB>, {.grid = 1, .block = 32}, to_a.data(), to_b.data(), to_a_scales.data(),
               to_b_scales.data(), c.data());
  const std::vector<float> got = c.host();
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - expected[i]) <= 33 * 0x1p-24 * sizes[i])) return 2;  // float32 sums
  return 0;
}

// --- Tensor copies: the swizzle, and zeros outside the tensor, on all sides.

constexpr int kBoxBytes = 16 * 128;
__global__ void copy_box(const __grid_constant__ CUtensorMap map, int x, int y, uint16_t* out) {
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + kBoxBytes);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::prefetch_tensor_map(&map);
    ptx::mbarrier_arrive_expect_tx(barrier, kBoxBytes);
    ptx::tensor_load_2d(shared, &map, x, y, barrier);
  }
  __syncthreads();
  while (!ptx::mbarrier_try_wait_parity(barrier, 0)) continue;
  const uint16_t* box = reinterpret_cast<const uint16_t*>(shared);
  for (int i = threadIdx.x; i < kBoxBytes / 2; i += 32) out[i] = box[i];
}
double all_boxes() {
  constexpr int kRows = 20, kColumns = 72;
  std::vector<uint16_t> matrix(kRows * kColumns);
  for (int i = 0; i < kRows * kColumns; ++i) matrix[i] = static_cast<uint16_t>(i + 1);
  GpuVector<uint16_t> data(matrix), out(kBoxBytes / 2);
  CUtensorMap map;
  if (!cuda::make_tensor_map(&map, data.data(), kRows, kColumns, kColumns, 16, 64)) return 1e30;
  for (const auto& [x, y] : {std::pair{0, 0}, {8, 4}, {40, 10}, {-5, -3}, {100, 0}}) {
    (void)launch(copy_box, {.grid = 1, .block = 32, .dynamic_shared = kBoxBytes + 8}, map, x, y, out.data());
    const std::vector<uint16_t> got = out.host();
    for (int r = 0; r < 16; ++r)
      for (int c = 0; c < 64; ++c) {
        const bool inside = y + r >= 0 && y + r < kRows && x + c >= 0 && x + c < kColumns;
        const uint16_t expected = inside ? matrix[(y + r) * kColumns + x + c] : 0;
        if (got[r * 64 + ((c / 8) ^ (r % 8)) * 8 + c % 8] != expected) return 2;
      }
  }
  return 0;
}

// --- wgmma in all sizes: tiles that threads wrote, a in shared memory and in registers.

template <int kN>
__global__ void one_product(const uint16_t* a, const uint16_t* b, float* c) {
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char *a_tile = shared, *b_tile = shared + 64 * 128;
  const auto place = [](unsigned char* tile, int row, int unit) {
    return reinterpret_cast<uint4*>(tile + row * 128 + (unit ^ row % 8) * 16);
  };
  const int thread = threadIdx.x, g = thread % 32 / 4, t = thread % 4;
  for (int i = thread; i < 64 * 8; i += 128)
    *place(a_tile, i / 8, i % 8) = reinterpret_cast<const uint4*>(a)[i];
  for (int i = thread; i < kN * 8; i += 128)
    *place(b_tile, i / 8, i % 8) = reinterpret_cast<const uint4*>(b)[i];
  ptx::fence_proxy_async();
  __syncthreads();
  uint32_t fragments[4][4];
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 4; ++i)
      fragments[k][i] = *reinterpret_cast<const uint32_t*>(a + (thread / 32 * 16 + g + i % 2 * 8) * 64 +
                                                           16 * k + 2 * t + i / 2 * 8);
  float sums[kN / 2];
  for (float& sum : sums) sum = 7;  // which the first product overwrites
  ptx::wgmma_fence();
  for (const int k : {1, 0, 3, 2}) {
    const uint64_t b_descriptor = ptx::wgmma_descriptor_128b(b_tile + 32 * k);
    if (k == 1)
      ptx::wgmma_m64k16_bf16_first<kN>(sums, fragments[k], b_descriptor);
    else if (k % 2 == 0)
      ptx::wgmma_m64k16_bf16<kN>(sums, ptx::wgmma_descriptor_128b(a_tile + 32 * k), b_descriptor);
    else
      ptx::wgmma_m64k16_bf16<kN>(sums, fragments[k], b_descriptor);
  }
  ptx::wgmma_commit_group();
  ptx::wgmma_wait_group<0>();
  for (int i = 0; i < kN / 2; ++i)
    c[(thread / 32 * 16 + g + i / 2 % 2 * 8) * kN + i / 4 * 8 + 2 * t + i % 2] = sums[i];
}
template <int kN>
double product() {
  static const harness::GemmCase problem(64, kN, 64);
  GpuVector<uint16_t> a(problem.a), b(problem.b);
  GpuVector<float> c(problem.expected.size());
  (void)launch(one_product<kN>, {.grid = 1, .block = 128, .dynamic_shared = size_t{64 + kN} * 128}, a.data(),
               b.data(), c.data());
  return harness::worst(c.host(), problem.expected, problem.tolerance());
}

// --- wgmma whose b lies as (k, n): the same product, from the transposed tile; and a register of `a` that is overwritten too early.

template <bool kOverwritten>
__global__ void product_with_rows_of_k(const uint16_t* a, const uint16_t* b, float* c) {
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  const int thread = threadIdx.x, g = thread % 32 / 4, t = thread % 4;
  for (int i = thread; i < 64 * 64; i += 128) {
    const int k = i / 64, n = i % 64;
    reinterpret_cast<uint16_t*>(shared + k * 128 + (n / 8 ^ k % 8) * 16)[n % 8] = b[n * 64 + k];
  }
  ptx::fence_proxy_async();
  __syncthreads();
  uint32_t fragments[4][4];
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 4; ++i)
      fragments[k][i] = *reinterpret_cast<const uint32_t*>(a + (thread / 32 * 16 + g + i % 2 * 8) * 64 + 16 * k + 2 * t + i / 2 * 8);
  float sums[32];
  for (float& sum : sums) sum = 7;  // which the first product overwrites
  const auto rows = [&](int k) { return ptx::wgmma_descriptor_128b(shared + k * 16 * 128); };
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16_rows_first<64>(sums, fragments[2], rows(2));
  for (const int k : {0, 3, 1}) ptx::wgmma_m64k16_bf16_rows<64>(sums, fragments[k], rows(k));
  ptx::wgmma_commit_group();
  if (kOverwritten && thread == 77) fragments[3][1] = 0;
  ptx::wgmma_wait_group<0>();
  for (int i = 0; i < 32; ++i) c[(thread / 32 * 16 + g + i / 2 % 2 * 8) * 64 + i / 4 * 8 + 2 * t + i % 2] = sums[i];
}
template <bool kOverwritten>
double rows_of_k() {
  static const harness::GemmCase problem(64, 64, 64);
  GpuVector<uint16_t> a(problem.a), b(problem.b);
  GpuVector<float> c(problem.expected.size());
  (void)launch(product_with_rows_of_k<kOverwritten>, {.grid = 1, .block = 128, .dynamic_shared = 64 * 128}, a.data(), b.data(),
               c.data());
  return harness::worst(c.host(), problem.expected, problem.tolerance());
}

// --- cvt to bf16, ties included, and powers of two.

__global__ void to_bf16(const float* in, uint32_t* out) { out[threadIdx.x] = ptx::cvt_bf16x2(in[threadIdx.x], -in[threadIdx.x]); }
double all_bf16() {
  const std::vector<float> numbers{0, 1, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, 3.3895e38f, 0x1p-140f, INFINITY, NAN};
  const std::vector<uint16_t> expected{0, 0x3f80, 0x3f80, 0x3f82, 0x3f81, 0x7f7f, 0, 0x7f80, 0x7fff};
  GpuVector<float> in(numbers);
  GpuVector<uint32_t> out(numbers.size());
  (void)launch(to_bf16, {.grid = 1, .block = dim3(static_cast<unsigned>(numbers.size()))}, in.data(), out.data());
  const std::vector<uint32_t> got = out.host();
  for (size_t i = 0; i < got.size(); ++i) {
    const uint32_t high = std::isnan(numbers[i]) ? expected[i] : expected[i] ^ 0x8000u;
    if (got[i] != (expected[i] | high << 16)) return 2;
  }
  return 0;
}

__global__ void powers(const float* in, float* out) { out[threadIdx.x] = ptx::ex2(in[threadIdx.x]); }
double all_powers() {
  const std::vector<float> numbers{0, 1, -1, -0.3f, 10.7f, -126, -126.5f, -1000, -INFINITY};
  GpuVector<float> in(numbers), out(numbers.size());
  (void)launch(powers, {.grid = 1, .block = dim3(static_cast<unsigned>(numbers.size()))}, in.data(), out.data());
  const std::vector<float> got = out.host();
  for (size_t i = 0; i < got.size(); ++i) {
    const double expected = numbers[i] < -126 ? 0 : std::exp2(double{numbers[i]});
    if (!(std::abs(got[i] - expected) <= 0x1p-22 * expected)) return 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  expect_clean("shuffles", all_shuffles, 4);
  expect_clean("votes", all_votes);
  expect_clean("atomics", all_atomics);
  expect_clean("atomics that add nothing", all_that_add_nothing);
  expect_clean("handover by a volatile flag", handovers<Flag::kVolatile>);
  expect_clean("handover by acquire and release", handovers<Flag::kAcquire>);
  expect_caught("handover without a fence", {Kind::kRace}, handovers<Flag::kNoFence>, "instruction_test.cpp");
  expect_clean("a barrier of the grid", grid_barriers);
  expect_clean("bits", all_bits, 1);
  expect_clean("ldmatrix", all_matrices);
  expect_clean("movmatrix, fma.bf16x2, cp.async of four bytes", all_small_ones);
  expect_clean("cvt to e4m3", all_e4m3, 1);
  expect_clean("mma with block scaling, bytes 0 and 0", scaled_products<0, 0>, 4);
  expect_clean("mma with block scaling, bytes 2 and 1", scaled_products<2, 1>, 4);
  expect_clean("mma with block scaling, bytes 1 and 3", scaled_products<1, 3>, 4);
  expect_clean("mma with block scaling, bytes 3 and 2", scaled_products<3, 2>, 4);
  expect_clean("tensor copies", all_boxes);
  expect_clean("wgmma, n = 8", product<8>, 4);
  expect_clean("wgmma, n = 16", product<16>, 4);
  expect_clean("wgmma, n = 32", product<32>, 4);
  expect_clean("wgmma, n = 64", product<64>, 4);
  expect_clean("wgmma, n = 128", product<128>, 2);
  expect_clean("wgmma, n = 256", product<256>, 1);
  expect_clean("wgmma, rows of k", rows_of_k<false>, 4);
  expect_caught("wgmma, a register of A overwritten", {Kind::kInFlight}, rows_of_k<true>, "overwritten the registers of A");
  expect_clean("cvt to bf16", all_bf16, 1);
  expect_clean("powers of two", all_powers, 1);
  return harness::finish("instruction_test");
}
