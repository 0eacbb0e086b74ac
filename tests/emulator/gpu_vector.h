// Device memory that a test owns, under CUDA's names or HIP's: freed at the end, whatever happened.
#pragma once

#include <vector>

#include "simt/port.cuh"

namespace harness {

template <class T>
class GpuVector {
 public:
  explicit GpuVector(size_t count) : count_(count) { (void)GPU(Malloc)(&data_, count * sizeof(T)); }
  explicit GpuVector(const std::vector<T>& values) : GpuVector(values.size()) {
    (void)GPU(Memcpy)(data_, values.data(), count_ * sizeof(T), GPU(MemcpyHostToDevice));
  }
  ~GpuVector() {
    if (data_ != nullptr) (void)GPU(Free)(data_);
  }
  GpuVector(const GpuVector&) = delete;
  GpuVector& operator=(const GpuVector&) = delete;
  T* data() { return data_; }
  size_t size() const { return count_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    (void)GPU(Memcpy)(values.data(), data_, count_ * sizeof(T), GPU(MemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

}  // namespace harness
