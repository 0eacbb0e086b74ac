// Every kernel of every instruction set that this machine has, against plain float64 loops.
#include <cstdlib>
#include <stdexcept>

#include "attention_cases.h"
#include "check.h"
#include "cpu/isa.h"
#include "elementwise_cases.h"
#include "product_cases.h"

int main() {
  using namespace gptoss::cpu;
  try {
    std::printf("chosen: %s\n", choose_isa("").name);
  } catch (const std::invalid_argument& error) {
    std::printf("skipped: a forced choice: %s\n", error.what());
  }
  for (int k : {32, 100, 352}) test::quantised_to_int8(k);
  std::vector<const Kernels*> of_integers;
  for (const Isa& isa : isas()) {
    if (!isa.present) {
      std::printf("skipped: %s: this processor, or the system, does not have it\n", isa.name);
      continue;
    }
    std::printf("testing: %s, %d lanes\n", isa.name, isa.kernels->lanes);
    std::fflush(stdout);
    test::product_cases(*isa.kernels);
    test::attention_cases(*isa.kernels);
    test::elementwise_cases(*isa.kernels);
    if (isa.kernels->integers) of_integers.push_back(isa.kernels);
  }
  for (test::Format format : {test::Format::mxfp4, test::Format::int8}) test::integers_agree(of_integers, format);
  return test::finish("kernels_test");
}
