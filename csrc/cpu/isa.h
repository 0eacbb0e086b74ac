// Which instruction sets were compiled, which this machine has, and which one is used.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace gptoss::cpu {

struct Isa {
  const char* name;
  const Kernels* kernels;  // null if not compiled for this architecture
  bool present;            // this machine runs it
};

// Best first. Only those of this architecture.
const std::vector<Isa>& isas();

// `forced` empty: the environment variable GPTOSS_CPU_ISA, else the best present. Throws std::invalid_argument
// when the forced one is unknown or absent, naming what there is.
const Kernels& choose_isa(const std::string& forced);

}  // namespace gptoss::cpu
