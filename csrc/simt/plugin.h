// The entry of a GPU plug-in: which cards there are, why one cannot be used, and a backend on the one asked
// for.
// A vendor says what only it knows; the order of the questions and the words are the same for all.
#pragma once

#include <memory>
#include <string>

#include "gpu_backend.h"

namespace gptoss::simt {

class Vendor {
 public:
  virtual ~Vendor() = default;

  virtual const char* device() const = 0;        // as load(device=...) says it: "cuda"
  virtual const char* built_for() const = 0;     // the architectures
  virtual const char* architecture() const = 0;  // the name of the setting that chooses them
  virtual int count_cards() const = 0;  // throws std::runtime_error with the remedy where there is none
  virtual std::string describe(int card) const = 0;
  virtual void refuse_unless_usable(int card) const = 0;  // throws std::runtime_error
  // Of the current card; null where SIMT does all.
  virtual std::unique_ptr<MatrixKernels> matrix_kernels(const BackendOptions&) const { return nullptr; }
  virtual void set_up(GpuBackend&, int) const {}  // of what a backend leaves to choose, on this card
};

// For DevicePlugin: nothing is thrown through these.
bool probe(const Vendor& vendor, char* detail, size_t detail_bytes);
Backend* create(const Vendor& vendor, const BackendOptions& options, char* error, size_t error_bytes);

}  // namespace gptoss::simt
