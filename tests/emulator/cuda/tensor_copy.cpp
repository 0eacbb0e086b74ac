// cp.async.bulk.tensor: boxes of matrices, swizzled on the way.
#include "emulated/tensor_copy.cuh"

#include <cstring>

#include "../core/access.h"
#include "../core/fault.h"
#include "cuda.h"
#include "cuda_runtime.h"
#include "emulated/shared.cuh"
#include "mbarrier.h"

namespace {

using namespace emulator;

// What the opaque words of a CUtensorMap hold here.
struct Matrix {
  uint64_t magic;
  const char* data;
  uint64_t columns, rows;
  uint64_t row_bytes;  // from one row to the next
  uint32_t element_bytes, box_columns, box_rows;
  uint32_t swizzle;  // bytes of a swizzled row: 0, 32, 64 or 128
  // Elements of four bits: eight bytes hold 16 of them in memory, and the first half of 16 bytes in shared memory. A byte for
  // each there, but only the first halves are copied, and count.
  uint32_t padded;
  uint32_t column_bytes(uint32_t columns) const { return padded ? columns / 2 : columns * element_bytes; }  // in memory
};
static_assert(sizeof(Matrix) <= sizeof(CUtensorMap));
constexpr uint64_t kMagic = 0x74656e736f726d61;

uint32_t size_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
    case CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B: return 1;  // in shared memory
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: return 4;
    default: return 2;
  }
}

uint32_t swizzle_bytes(CUtensorMapSwizzle swizzle) { return swizzle == 0 ? 0 : 16u << swizzle; }

Matrix decode(const CUtensorMap& map, Site site) {
  Matrix matrix;
  std::memcpy(&matrix, &map, sizeof matrix);
  if (matrix.magic != kMagic)
    fault(Kind::kInstruction, Where::of(site),
          "a tensor copy with a descriptor that was not made by the driver");
  return matrix;
}

// The 16-byte units of a row change places, by the row's number within the pattern: bits of the shared
// address.
uint32_t swizzled(uint32_t address, uint32_t swizzle) {
  if (swizzle == 0) return address;
  return address ^ ((address >> 7 & (swizzle / 16 - 1)) << 4);
}

// What is not copied of a unit "is un-initialized".
void copy_padded_box(Block& block, const Matrix& m, uint32_t to, int x, int y, Site site) {
  constexpr uint32_t kUnit = 16, kHalf = kUnit / 2;
  for (uint32_t r = 0; r < m.box_rows; ++r)
    for (uint32_t u = 0; u < m.box_columns / kUnit; ++u) {
      const int64_t row = int64_t{y} + r, column = int64_t{x} + u * kUnit;
      char unit[kUnit];
      std::memset(unit, 0, kHalf);
      std::memset(unit + kHalf, 0xff, kHalf);
      if (row >= 0 && column >= 0 && row < static_cast<int64_t>(m.rows) && column < static_cast<int64_t>(m.columns))
        std::memcpy(unit, m.data + row * m.row_bytes + column / 2, kHalf);
      const uint32_t address = swizzled(to + r * m.box_columns + u * kUnit, m.swizzle);
      std::memcpy(shared_pointer(block, address, kUnit, "a tensor copy", site), unit, kUnit);
    }
}

void copy_box(Block& block, const Matrix& m, uint32_t to, int x, int y, Site site) {
  if (m.padded) return copy_padded_box(block, m, to, x, y, site);
  const uint32_t row_bytes = m.box_columns * m.element_bytes;
  for (uint32_t r = 0; r < m.box_rows; ++r) {
    for (uint32_t c = 0; c < m.box_columns; ++c) {
      const int64_t row = int64_t{y} + r, column = int64_t{x} + c;
      char element[4] = {};
      if (row >= 0 && column >= 0 && row < static_cast<int64_t>(m.rows) &&
          column < static_cast<int64_t>(m.columns))
        std::memcpy(element, m.data + row * m.row_bytes + column * m.element_bytes, m.element_bytes);
      const uint32_t address = swizzled(to + r * row_bytes + c * m.element_bytes, m.swizzle);
      std::memcpy(shared_pointer(block, address, m.element_bytes, "a tensor copy", site), element,
                  m.element_bytes);
    }
  }
}

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  const auto refused = [](const char* why) {
    note_fault(Kind::kLaunch, "none", "host", std::string("cuTensorMapEncodeTiled: ") + why);
    return CUDA_ERROR_INVALID_VALUE;
  };
  const uint32_t element = size_of(type);
  if (rank != 2) return refused("the emulator has matrices only");
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || steps[0] != 1 || steps[1] != 1)
    return refused("the emulator has neither interleaving nor element strides");
  if (reinterpret_cast<uintptr_t>(data) % 16 != 0) return refused("the address is not a multiple of 16");
  if (strides[0] % 16 != 0) return refused("the row stride is not a multiple of 16 bytes");
  const bool padded = type == CU_TENSOR_MAP_DATA_TYPE_16U4_ALIGN16B;
  if (padded && (reinterpret_cast<uintptr_t>(data) % 32 != 0 || strides[0] % 32 != 0))
    return refused("the address or the row stride of padded elements is not a multiple of 32");
  if (padded && (extents[0] % 128 != 0 || box[0] != 128))
    return refused("padded elements are copied in boxes of 128, of rows that are a multiple of that");
  if (padded && swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && swizzle != CU_TENSOR_MAP_SWIZZLE_128B)
    return refused("padded elements are swizzled over 128 bytes or not at all");
  if (strides[0] < (padded ? extents[0] / 2 : extents[0] * element)) return refused("rows overlap");
  if (box[0] == 0 || box[0] > 256 || box[1] == 0 || box[1] > 256)
    return refused("a box has 1 to 256 rows and columns");
  if (box[0] * element % 16 != 0) return refused("a box's row is not a multiple of 16 bytes");
  const uint32_t bytes = swizzle_bytes(swizzle);
  if (bytes != 0 && box[0] * element > bytes) return refused("a box's row is longer than the swizzle");
  const Matrix matrix{
      kMagic, static_cast<const char*>(data), extents[0], extents[1], strides[0], element, box[0], box[1],
      bytes, padded};
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &matrix, sizeof matrix);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* result) {
  const bool found = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = found ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return found ? cudaSuccess : cudaErrorInvalidValue;
}

namespace gptoss::ptx {

void tensor_load_2d(void* shared, const CUtensorMap* map, int x, int y, uint64_t* barrier_address,
                    Site site) {
  const Inside inside;
  Block& block = *self().block;
  const Matrix m = decode(*map, site);
  const uint32_t row_bytes = m.box_columns * m.element_bytes;
  const size_t bytes = size_t{row_bytes} * m.box_rows, counted = size_t{m.column_bytes(m.box_columns)} * m.box_rows;
  if (m.padded && x % 128 != 0)
    fault(Kind::kInstruction, Where::of(site), "the emulator copies padded elements from a multiple of 128 on, not from column %d", x);
  const uint32_t to = ::emulator::shared_address(shared, bytes, "a tensor copy", site);
  if (to % 128 != 0)
    fault(Kind::kMisaligned, Where::of(site), "a tensor copy to shared address 0x%x, not a multiple of 128",
          to);
  if (m.swizzle != 0 && row_bytes != m.swizzle)
    fault(Kind::kInstruction, Where::of(site),
          "the emulator swizzles only boxes whose rows fill the swizzle");
  check_bounds(m.data, (m.rows - 1) * m.row_bytes + m.column_bytes(m.columns), false, Where::of(site));
  MBarrier& barrier = find_mbarrier_of_copy(barrier_address, "a tensor copy", site);
  auto operation = std::make_shared<AsyncOperation>();
  operation->name = "cp.async.bulk.tensor";
  operation->where = Where::of(site);
  operation->land = [&block, &barrier, m, shared, to, bytes, counted, x, y, site] {
    copy_box(block, m, to, x, y, site);
    ++block.agent_count;
    end_async_write(block, shared, bytes, Where::of(site));
    complete_bytes(block, barrier, static_cast<int64_t>(counted));
  };
  begin_async_write(shared, bytes, *operation);
  start(block, std::move(operation));
}

void prefetch_tensor_map(const CUtensorMap* map, Site site) {
  const Inside inside;
  decode(*map, site);
}

}  // namespace gptoss::ptx
