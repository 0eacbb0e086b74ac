// The GPU device of csrc/simt on Metal: what is Metal's own about it.
//
// Matrices lie in the checkpoint's file mapping where the GPU can read them there, which is unified memory; and
// products for many tokens run on the matrix units.
#pragma once

#include "simt/gpu_backend.h"

namespace gptoss::metal {

class MetalBackend : public simt::GpuBackend {
 public:
  MetalBackend(const BackendOptions& options, int index, std::string name, std::string detail);

 protected:
  void run(simt::GpuState& state, const simt::Call& call) override;
  const void* map(const Tensor& tensor, simt::Mappings& mappings) override;
  bool maps_tensors() const override { return true; }

 private:
  bool matrix_units_ = true;
};

}  // namespace gptoss::metal
