// cp.async.bulk.tensor: boxes of matrices, swizzled on the way.
#include "../core/access.h"
#include "../core/fault.h"
#include "cuda.h"
#include "cuda_runtime.h"
#include "mbarrier.h"

#include <cstring>

#include "emulated/shared.cuh"
#include "emulated/tensor_copy.cuh"

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
};
static_assert(sizeof(Matrix) <= sizeof(CUtensorMap));
constexpr uint64_t kMagic = 0x74656e736f726d61;

uint32_t size_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
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
    fault(Kind::kInstruction, Where::of(site), "a tensor copy with a descriptor that was not made by the driver");
  return matrix;
}

// The 16-byte units of a row change places, by the row's number within the pattern: bits of the shared address.
uint32_t swizzled(uint32_t address, uint32_t swizzle) {
  if (swizzle == 0) return address;
  return address ^ ((address >> 7 & (swizzle / 16 - 1)) << 4);
}

// Copies the box; returns its bytes.
void copy_box(Block& block, const Matrix& m, uint32_t to, int x, int y, Site site) {
  const uint32_t row_bytes = m.box_columns * m.element_bytes;
  for (uint32_t r = 0; r < m.box_rows; ++r) {
    for (uint32_t c = 0; c < m.box_columns; ++c) {
      const int64_t row = int64_t{y} + r, column = int64_t{x} + c;
      char element[4] = {};
      if (row >= 0 && column >= 0 && row < static_cast<int64_t>(m.rows) && column < static_cast<int64_t>(m.columns))
        std::memcpy(element, m.data + row * m.row_bytes + column * m.element_bytes, m.element_bytes);
      const uint32_t address = swizzled(to + r * row_bytes + c * m.element_bytes, m.swizzle);
      std::memcpy(shared_pointer(block, address, m.element_bytes, "a tensor copy", site), element, m.element_bytes);
    }
  }
}

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                                const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
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
  if (strides[0] < extents[0] * element) return refused("rows overlap");
  if (box[0] == 0 || box[0] > 256 || box[1] == 0 || box[1] > 256) return refused("a box has 1 to 256 rows and columns");
  if (box[0] * element % 16 != 0) return refused("a box's row is not a multiple of 16 bytes");
  const uint32_t bytes = swizzle_bytes(swizzle);
  if (bytes != 0 && box[0] * element > bytes) return refused("a box's row is longer than the swizzle");
  const Matrix matrix{kMagic, static_cast<const char*>(data), extents[0], extents[1], strides[0], element, box[0],
                      box[1], bytes};
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &matrix, sizeof matrix);
  return CUDA_SUCCESS;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  const bool found = std::strcmp(symbol, "cuTensorMapEncodeTiled") == 0;
  *function = found ? reinterpret_cast<void*>(&cuTensorMapEncodeTiled) : nullptr;
  *result = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return found ? cudaSuccess : cudaErrorInvalidValue;
}

namespace gptoss::ptx {

void tensor_load_2d(void* shared, const CUtensorMap* map, int x, int y, uint64_t* barrier_address, Site site) {
  const Inside inside;
  Block& block = *self().block;
  const Matrix m = decode(*map, site);
  const uint32_t row_bytes = m.box_columns * m.element_bytes;
  const size_t bytes = size_t{row_bytes} * m.box_rows;
  const uint32_t to = ::emulator::shared_address(shared, bytes, "a tensor copy", site);
  if (to % 128 != 0)
    fault(Kind::kMisaligned, Where::of(site), "a tensor copy to shared address 0x%x, not a multiple of 128", to);
  if (m.swizzle != 0 && row_bytes != m.swizzle)
    fault(Kind::kInstruction, Where::of(site), "the emulator swizzles only boxes whose rows fill the swizzle");
  check_bounds(m.data, (m.rows - 1) * m.row_bytes + m.columns * m.element_bytes, false, Where::of(site));
  MBarrier& barrier = find_mbarrier_of_copy(barrier_address, "a tensor copy", site);
  auto operation = std::make_shared<AsyncOperation>();
  operation->name = "cp.async.bulk.tensor";
  operation->where = Where::of(site);
  operation->land = [&block, &barrier, m, shared, to, bytes, x, y, site] {
    copy_box(block, m, to, x, y, site);
    ++block.agent_count;
    end_async_write(block, shared, bytes, Where::of(site));
    complete_bytes(block, barrier, static_cast<int64_t>(bytes));
  };
  begin_async_write(shared, bytes, *operation);
  start(block, std::move(operation));
}

void prefetch_tensor_map(const CUtensorMap* map, Site site) {
  const Inside inside;
  decode(*map, site);
}

}  // namespace gptoss::ptx
