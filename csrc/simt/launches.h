// What a stage puts into a stream: stages, and the kernels that they are made of, one launch each.
#pragma once

#include "gpu_backend.h"

namespace gptoss::simt {

// The launches of one call, over the buffers of a state. Grids are made for the call's counts, which are buckets;
// kernels look up the live ones.
class Launches {
 public:
  Launches(GpuState& state, const BackendOptions& options, const Call& call);

  void embed();
  void attn_qkv();
  void attn();
  void attn_out();
  void moe_route();
  void moe_up();
  void moe_down();
  void unembed();
  void sample();

  void norm(const float* gain, const int32_t* row, const int32_t* count, int rows);  // residual -> operand
  void round_rows(const float* x, float* out, int size, int rows);
  void linear(const LinearArgs& args, int rows);
  void rotate_append();
  void choose();
  void group_pairs();

  // Not part of a stage: functions of the stages' kernels by themselves, and ceilings, for operations; see ops.cpp.
  void swiglu(const SwigluArgs& args);
  void dequantize(const DequantizeArgs& args);
  void read(const ReadArgs& args, int blocks);
  void multiply_add(const MultiplyAddArgs& args, int blocks);

 private:
  template <class Args>
  void start(const char* kernel_name, KernelOf<Args> kernel, dim3 grid, size_t shared, const Args& args, int threads);
  template <class Args>
  void start(const char* kernel_name, KernelOf<Args> kernel, dim3 grid, size_t shared, const Args& args);

  const GpuLayer& layer() const { return static_cast<const GpuLayer&>(*call_.layer); }
  int tokens() const { return call_.grid.tokens; }
  dim3 expert_grid(int rows) const;
  KvArgs kv() const;
  MoeArgs moe(const ExpertArgs& experts, const float* x, float* y) const;

  GpuState& s_;
  const Config& c_;
  bool fast_, bf16_kv_;
  const Call& call_;
};

}  // namespace gptoss::simt
