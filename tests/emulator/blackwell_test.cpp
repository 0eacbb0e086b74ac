// What an sm_100 adds: tensor memory, block-scaled products of tcgen05 and copies of padded codes, against their definitions;
// and what their rules forbid.
#include "core/e4m3.h"
#include "gpu_vector.h"
#include "harness.h"
#include "ptx/elect.cuh"
#include "ptx/tcgen05.cuh"
#include "ptx/tensor_copy.cuh"
#include "ptx/tensor_memory.cuh"
#include "simt/port.cuh"
#include "tensor_map.h"

namespace {

using namespace gptoss;
using emulator::Kind;
using harness::expect_caught;
using harness::expect_clean;
using harness::GpuVector;
using simt::launch;

// --- One product for each byte of the words of scales, all onto the same sums

constexpr int kRows = 128, kColumns = 48, kDepth = 32, kThreads = 128;
constexpr int kTileBytes = 128 * 128, kScaleBytes = 512, kShared = 2 * kTileBytes + 2 * kScaleBytes + 24;

enum class Fault { kNone, kOrder, kOtherShape, kNoFenceBetweenThreads, kFormat, kReserved, kManyRows, kAnotherCopy, kMoreColumns };

struct Descriptors {
  uint64_t a, b;  // without the addresses
};

// Thread 0 copies the scales, thread 33 multiplies: two that a barrier orders.
template <Fault kFault>
__global__ void multiply(const uint4* a, const uint4* b, const uint4* a_scales, const uint4* b_scales, Descriptors descriptors, float* d) {
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char *a_tile = shared, *b_tile = shared + kTileBytes, *scales = shared + 2 * kTileBytes;
  uint64_t *const copied = reinterpret_cast<uint64_t*>(scales + 2 * kScaleBytes), *const done = copied + 1;
  uint32_t* const address = reinterpret_cast<uint32_t*>(done + 1);
  const int thread = threadIdx.x, warp = thread / 32;
  for (int i = thread; i < kTileBytes / 16; i += kThreads) {
    reinterpret_cast<uint4*>(a_tile)[i] = a[i];
    reinterpret_cast<uint4*>(b_tile)[i] = b[i];
  }
  for (int i = thread; i < kScaleBytes / 16; i += kThreads) {
    reinterpret_cast<uint4*>(scales)[i] = a_scales[i];
    reinterpret_cast<uint4*>(scales + kScaleBytes)[i] = b_scales[i];
  }
  ptx::fence_proxy_async();
  if (thread == 0) {
    ptx::mbarrier_init(copied, 1);
    ptx::mbarrier_init(done, 1);
    ptx::fence_mbarrier_init();
  }
  if (warp == 2) {
    ptx::tensor_alloc(address, 64);
    if (kFault == Fault::kMoreColumns) ptx::tensor_alloc(address, 128);
    ptx::tensor_relinquish();
  }
  __syncthreads();
  const uint32_t memory = *address, of_a = memory + kColumns, of_b = of_a + 4;
  if (thread == 0) {
    ptx::tensor_copy_32x128b(of_a, ptx::tcgen05_descriptor_plain(scales));
    ptx::tensor_copy_32x128b(of_b, ptx::tcgen05_descriptor_plain(scales + kScaleBytes));
    if (kFault == Fault::kAnotherCopy) ptx::tensor_copy_32x128b(of_b, ptx::tcgen05_descriptor_plain(scales + kScaleBytes));
    ptx::tcgen05_commit(copied);
    if (kFault != Fault::kNoFenceBetweenThreads) ptx::tcgen05_fence_before();
  }
  __syncthreads();
  if (thread == 33) {
    ptx::tcgen05_fence_after();
    const auto at = [](const unsigned char* tile) { return uint64_t{ptx::shared_address(tile)} >> 4; };
    for (int byte = 0; byte < 4; ++byte) {
      uint32_t what = ptx::tcgen05_e2m1_e4m3<kColumns>(byte);
      if (kFault == Fault::kFormat) what |= 3u << 10;
      if (kFault == Fault::kReserved) what |= 1u << 24;
      if (kFault == Fault::kManyRows) what += 1u << 27;
      if (kFault == Fault::kOtherShape && byte == 3) what = ptx::tcgen05_e2m1_e4m3<32>(byte);
      ptx::tcgen05_mma_block_scaled(memory, descriptors.a | at(a_tile), descriptors.b | at(b_tile), what, of_a, of_b, byte > 0);
    }
    if (kFault == Fault::kOrder) {
      while (!ptx::mbarrier_try_wait_parity(copied, 0)) continue;
      ptx::tcgen05_fence_after();
      ptx::tensor_copy_32x128b(of_a, ptx::tcgen05_descriptor_plain(scales));
    }
    ptx::tcgen05_commit(done);
  }
  while (!ptx::mbarrier_try_wait_parity(copied, 0)) continue;
  while (!ptx::mbarrier_try_wait_parity(done, 0)) continue;
  ptx::tcgen05_fence_after();
  for (int first = 0; first < kColumns; first += 16) {  // the last ones overlap
    float values[32];
    const int from = first + 32 <= kColumns ? first : kColumns - 32;
    ptx::tensor_load_32x32b_x32(values, ptx::tensor_address(memory, 32 * warp, from));
    ptx::tensor_wait_load();
    for (int i = 0; i < 32; ++i) d[thread * kColumns + from + i] = values[i];
  }
  ptx::tcgen05_fence_before();
  __syncthreads();
  ptx::tcgen05_fence_after();
  if (warp == 1) ptx::tensor_dealloc(memory, 64);
}

// Where 16 elements of a row lie, as the canonical layouts of the PTX ISA say (9.7.16.3.3), and what says so.
struct Layout {
  const char* name;
  int rows_of_8, units;  // bytes from eight rows to the next, and from unit to unit
  int row;               // bytes of a row of eight
  uint32_t swizzle;      // what bits 7 to 9 of an offset are masked with before they change bits 4 to 6
  uint64_t code;         // in a descriptor
  int place(int r, int unit) const {
    const int at = r / 8 * rows_of_8 + r % 8 * row + unit * units;
    return at ^ static_cast<int>((at >> 7 & swizzle) << 4);
  }
  uint64_t bits() const {
    return uint64_t(units >> 4) << 16 | uint64_t(rows_of_8 >> 4) << 32 | uint64_t{1} << 46 | code << 61;
  }
};
constexpr Layout kLayouts[] = {{"units one behind the other", 256, 128, 16, 0, 0}, {"units far from each other", 128, 4096, 16, 0, 0},
                               {"32 bytes swizzled", 256, 16, 32, 1, 6}, {"64 bytes swizzled", 512, 16, 64, 3, 4},
                               {"128 bytes swizzled", 1024, 16, 128, 7, 2}};

struct Problem {
  std::vector<uint8_t> a_codes, b_codes;              // row by row
  std::vector<uint8_t> a_scales, b_scales;            // of row r and byte s: 4 r + s
  std::vector<double> expected, sizes;
  Problem() : a_codes(kRows * kDepth), b_codes(kColumns * kDepth), a_scales(4 * kRows), b_scales(4 * kColumns),
              expected(kRows * kColumns), sizes(kRows * kColumns) {
    emulator::Random random(11);
    for (uint8_t& code : a_codes) code = static_cast<uint8_t>(random.below(16));
    for (uint8_t& code : b_codes) code = static_cast<uint8_t>(random.below(127) | random.below(2) << 7);
    for (uint8_t& scale : a_scales) scale = static_cast<uint8_t>(120 + random.below(14));
    for (uint8_t& scale : b_scales) scale = static_cast<uint8_t>(120 + random.below(14));
    constexpr double kMagnitude[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    for (int m = 0; m < kRows; ++m)
      for (int n = 0; n < kColumns; ++n)
        for (int s = 0; s < 4; ++s)
          for (int k = 0; k < kDepth; ++k) {
            const uint8_t code = a_codes[m * kDepth + k];
            const double x = (code & 8 ? -1 : 1) * kMagnitude[code & 7] * double{emulator::e4m3_value(b_codes[n * kDepth + k])} *
                             std::ldexp(1.0, a_scales[4 * m + s] + b_scales[4 * n + s] - 254);
            expected[m * kColumns + n] += x, sizes[m * kColumns + n] += std::abs(x);
          }
  }
};

// What no element has is 0xff.
std::vector<uint8_t> image(const std::vector<uint8_t>& codes, int rows, const Layout& layout, bool four_bits) {
  std::vector<uint8_t> bytes(kTileBytes, 0xff);
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < kDepth; k += four_bits ? 2 : 1) {
      const uint8_t* code = &codes[r * kDepth + k];
      const int at = layout.place(r, k / 16) + k % 16 / (four_bits ? 2 : 1);
      bytes[at] = four_bits ? static_cast<uint8_t>(code[0] | code[1] << 4) : code[0];
    }
  return bytes;
}
// A lane's 16 bytes: of rows lane, 32 + lane and so on a word each.
std::vector<uint8_t> image_of_scales(const std::vector<uint8_t>& scales) {
  std::vector<uint8_t> bytes(kScaleBytes, 0xff);
  for (size_t i = 0; i < scales.size(); ++i) bytes[i / 4 % 32 * 16 + i / 4 / 32 * 4 + i % 4] = scales[i];
  return bytes;
}

template <Fault kFault = Fault::kNone>
double product(const Layout& of_a, const Layout& of_b) {
  static const Problem problem;
  GpuVector<uint8_t> a(image(problem.a_codes, kRows, of_a, true)), b(image(problem.b_codes, kColumns, of_b, false));
  GpuVector<uint8_t> a_scales(image_of_scales(problem.a_scales)), b_scales(image_of_scales(problem.b_scales));
  GpuVector<float> d(problem.expected.size());
  const auto words = [](GpuVector<uint8_t>& bytes) { return reinterpret_cast<const uint4*>(bytes.data()); };
  (void)launch(multiply<kFault>, {.grid = 1, .block = kThreads, .dynamic_shared = kShared}, words(a), words(b), words(a_scales),
               words(b_scales), Descriptors{of_a.bits(), of_b.bits()}, d.data());
  const std::vector<float> got = d.host();
  for (size_t i = 0; i < got.size(); ++i)
    if (!(std::abs(got[i] - problem.expected[i]) <= 132 * 0x1p-24 * problem.sizes[i])) return 2;  // float32 sums
  return 0;
}
double all_layouts() {
  for (const Layout& of_a : kLayouts)
    for (const Layout& of_b : kLayouts)
      if (product(of_a, of_b) != 0) return 2;
  return 0;
}
template <Fault kFault>
double faulty() {
  return product<kFault>(kLayouts[4], kLayouts[4]);
}

// --- Tensor copies of codes of four bits: 16 of them to each 16 bytes

constexpr int kBoxRows = 16, kBoxBytes = kBoxRows * 128;
enum class Count { kCodes, kAll };
template <Count kCount>
__global__ void copy_codes(const __grid_constant__ CUtensorMap map, int x, int y, uint8_t* out) {
  GPTOSS_DYNAMIC_SHARED(unsigned char, shared);
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared + kBoxBytes);
  if (threadIdx.x / 32 == 0 && ptx::elect_one()) {
    ptx::mbarrier_init(barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(barrier, kCount == Count::kCodes ? kBoxBytes / 2 : kBoxBytes);
    ptx::tensor_load_2d(shared, &map, x, y, barrier);
  }
  __syncthreads();
  while (!ptx::mbarrier_try_wait_parity(barrier, 0)) continue;
  for (int i = threadIdx.x; i < kBoxBytes; i += 32) out[i] = shared[i];
}
template <Count kCount>
double all_codes() {
  constexpr int kTensorRows = 20, kTensorColumns = 256, kPitch = 160;
  std::vector<uint8_t> matrix(kTensorRows * kPitch);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<uint8_t>(i * 7 + 1);
  GpuVector<uint8_t> data(matrix), out(kBoxBytes);
  CUtensorMap map;
  if (!cuda::make_tensor_map(&map, {CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B, data.data(), kTensorRows, kTensorColumns, kPitch, kBoxRows, 128}))
    return 1e30;
  for (const auto& [x, y] : {std::pair{0, 0}, {128, 3}, {128, 10}, {256, 0}, {0, -5}}) {
    (void)launch(copy_codes<kCount>, {.grid = 1, .block = 32, .dynamic_shared = kBoxBytes + 8}, map, x, y, out.data());
    const std::vector<uint8_t> got = out.host();
    for (int r = 0; r < kBoxRows; ++r)
      for (int c = 0; c < 128; c += 2) {
        const bool inside = y + r >= 0 && y + r < kTensorRows && x + c < kTensorColumns;
        const uint8_t expected = inside ? matrix[(y + r) * kPitch + (x + c) / 2] : 0;
        if (got[r * 128 + ((c / 16) ^ (r % 8)) * 16 + c % 16 / 2] != expected) return 2;
      }
  }
  return 0;
}
// Of three maps the driver takes none.
double refused() {
  GpuVector<uint8_t> data(4096);
  CUtensorMap map;
  const auto type = CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B;
  const bool taken = cuda::make_tensor_map(&map, {type, data.data(), 16, 128, 64, 16, 64}) ||        // half a box
                     cuda::make_tensor_map(&map, {type, data.data(), 16, 192, 96, 16, 128}) ||       // rows of a box and a half
                     cuda::make_tensor_map(&map, {type, data.data() + 16, 16, 128, 64, 16, 128});    // at a multiple of 16
  return taken ? 2 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  harness::start(argc, argv);
  expect_clean("block-scaled products in all layouts", all_layouts, 2);
  expect_clean("a block-scaled product, more schedules", faulty<Fault::kNone>, 12);
  expect_clean("tensor copies of padded codes", all_codes<Count::kCodes>, 4);

  const char* file = "blackwell_test.cpp";
  expect_caught("a copy behind the products that read what it replaces", {Kind::kInFlight}, faulty<Fault::kOrder>, file);
  expect_caught("a copy behind a copy", {Kind::kInFlight}, faulty<Fault::kAnotherCopy>, file);
  expect_caught("a product of another shape onto the same sums", {Kind::kInFlight}, faulty<Fault::kOtherShape>, file);
  expect_caught("a copy that no fence orders before another thread's product", {Kind::kInFlight}, faulty<Fault::kNoFenceBetweenThreads>, file);
  expect_caught("a format of six bits", {Kind::kInstruction}, faulty<Fault::kFormat>, file);
  expect_caught("a reserved bit", {Kind::kInstruction}, faulty<Fault::kReserved>, file);
  expect_caught("256 rows of one block", {Kind::kInstruction}, faulty<Fault::kManyRows>, file);
  expect_caught("more columns than the time before", {Kind::kInstruction}, faulty<Fault::kMoreColumns>, file);
  expect_caught("the padding of codes announced", {Kind::kDeadlock, Kind::kDivergence}, all_codes<Count::kAll>, file);
  expect_caught("maps of padded codes that there are none of", {Kind::kLaunch}, refused);
  return harness::finish("blackwell_test");
}
