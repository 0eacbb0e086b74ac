// What a stage puts into a stream: stages, and the kernels that they are made of, one launch each.
#pragma once

#include <utility>

#include "gpu_backend.h"

namespace gptoss::simt {

// The launches of one call, over the buffers of a state. Grids are made for the call's counts, which are buckets;
// kernels look up the live ones.
class Launches {
 public:
  // `matrix`: null where SIMT does all.
  Launches(GpuState& state, const BackendOptions& options, const MatrixKernels* matrix, const Call& call);

  void embed();
  void attn_qkv();
  void attn();
  void attn_out();
  void moe_route();
  void moe_up();
  void moe_down();
  void unembed();
  void sample();

  NormArgs norm_args(const float* gain, const int32_t* row, const int32_t* count, const Operand& out) const;  // of residual
  void norm(const NormArgs& args, int rows);
  void round_rows(const float* x, const Operand& out, int rows);
  void linear(const LinearArgs& args, int rows);
  void rotate_append();
  AppendArgs append() const;
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

  // Whether the next kernel may begin before the last one has ended: not the first one behind something else.
  bool dependent() const { return s_.behind_a_kernel && s_.dependent_launches; }
  // What a function of MatrixKernels says, which is asked with the launch that it would make.
  bool enqueued(bool by_matrix_kernels) {
    s_.behind_a_kernel = s_.behind_a_kernel || by_matrix_kernels;
    return by_matrix_kernels;
  }
  const GpuLayer& layer() const { return static_cast<const GpuLayer&>(*call_.layer); }
  int tokens() const { return call_.grid.tokens; }
  // What a product multiplies next, for matrix kernels or for SIMT.
  Operand operand(bool arranged, int size, MatrixShape::Use use) const;
  Operand expert_h() const;
  NormArgs norm_before_experts(bool arranged) const;
  LinearArgs router() const;
  MatrixKernels::Launch matrix_launch(int rows) const { return {s_.stream, s_.scratch, rows, dependent()}; }
  RouteArgs route() const;
  GroupArgs group() const;
  int group_threads() const;
  dim3 expert_grid(int rows) const;
  KvArgs kv() const;
  MoeArgs moe(const ExpertArgs& experts, const Operand& x) const;

  GpuState& s_;
  const Config& c_;
  const MatrixKernels* matrix_;
  bool fast_, bf16_kv_;
  int terms_;
  const Call& call_;
};

}  // namespace gptoss::simt
