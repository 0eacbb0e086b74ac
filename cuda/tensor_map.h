// The host's side of tensor copies: descriptors of matrices in device memory.
#pragma once

#include <cuda.h>

#include "simt/port.cuh"

namespace gptoss::cuda {

// A row-major matrix (rows, columns), copied in boxes of box_rows x box_columns that lie in shared memory in rows of 128 bytes
// with the swizzle of 128 bytes.
struct TensorMatrix {
  CUtensorMapDataType type;
  const void* data;
  size_t rows, columns, row_bytes;  // from one row to the next
  int box_rows, box_columns;
};

// The driver is asked for its function at run time, so that nothing links against it. Returns false where the driver refuses.
inline bool make_tensor_map(CUtensorMap* map, const TensorMatrix& m) {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found) !=
          cudaSuccess ||
      entry == nullptr)
    return false;
  const cuuint64_t extents[2] = {m.columns, m.rows};
  const cuuint64_t strides[1] = {m.row_bytes};
  const cuuint32_t box[2] = {static_cast<cuuint32_t>(m.box_columns), static_cast<cuuint32_t>(m.box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(entry);
  return encode(map, m.type, 2, const_cast<void*>(m.data), extents, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Of bf16, rows `row_stride` elements apart; box_columns is 64.
inline bool make_tensor_map(CUtensorMap* map, const void* data, size_t rows, size_t columns,
                            size_t row_stride, int box_rows, int box_columns) {
  return make_tensor_map(map, {CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, data, rows, columns, row_stride * 2, box_rows, box_columns});
}

}  // namespace gptoss::cuda
