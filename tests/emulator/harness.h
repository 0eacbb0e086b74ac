// What the emulator's tests share: cases that run a kernel over many seeds, clean or with a planted fault.
//
// A clean kernel has to be right and silent with every seed. A planted fault is caught when a detector names
// it, or the numbers are wrong; the case says which of the two, and within how many seeds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/fault.h"
#include "core/random.h"
#include "runtime/calls.h"

namespace harness {

inline int failures = 0;
inline int clean_runs = 0, faults_caught = 0, not_looked_at = 0;
inline std::string only;  // of --only NAME: the one case to run

// With AddressSanitizer kernels are compiled without the emulator's own hooks. It ends the program at an
// access out of bounds (see test_emulator.py, which runs those cases one by one); races have to show in the
// numbers.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kHooked = false;
#else
constexpr bool kHooked = true;
#endif

// GPTOSS_EMULATOR_SEEDS=200 for a longer look; the default fits the suite.
inline int seeds(int usual) {
  const char* text = std::getenv("GPTOSS_EMULATOR_SEEDS");
  return text != nullptr ? std::atoi(text) : usual;
}

inline void check(bool good, const char* what, const std::string& detail = "") {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s %s\n", what, detail.c_str());
}

// A run returns the largest error in units of its tolerance; NaN counts as wrong.
using Run = std::function<double()>;

struct Outcome {
  double error = 0;
  std::vector<emulator::Fault> faults;
  bool wrong() const { return !(error <= 1); }
};

inline Outcome run_once(const Run& run, uint64_t seed) {
  emulator::take_faults();
  emulator::reset_device();
  emulator::last_error(true);  // HIP's launches report what went wrong before them
  emulator::seed(seed);
  Outcome outcome;
  outcome.error = run();
  outcome.faults = emulator::take_faults();
  emulator::reset_device();
  return outcome;
}

inline bool skipped(const char* name) { return !only.empty() && only != name; }

inline void expect_clean(const char* name, const Run& run, int usual_seeds = 20) {
  if (skipped(name)) return;
  for (int seed = 0; seed < seeds(usual_seeds); ++seed) {
    const Outcome outcome = run_once(run, seed);
    ++clean_runs;
    if (!outcome.wrong() && outcome.faults.empty()) continue;
    check(false, name,
          "with seed " + std::to_string(seed) + ": error " + std::to_string(outcome.error) +
              " of its tolerance, " + std::to_string(outcome.faults.size()) + " faults");
    return;
  }
}

// `kinds`: the detectors that may name it; without any, only the numbers show it.
inline void expect_caught(const char* name, const std::vector<emulator::Kind>& kinds, const Run& run,
                          const char* in_report = "", int within = 8) {
  if (skipped(name)) return;
  const auto may_be = [&](emulator::Kind kind) {
    return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
  };
  const bool ends_program = may_be(emulator::Kind::kOutOfBounds) || may_be(emulator::Kind::kHostMemory) ||
                            may_be(emulator::Kind::kMisaligned);
  const bool needs_hooks = may_be(emulator::Kind::kRace) || may_be(emulator::Kind::kInFlight) ||
                           may_be(emulator::Kind::kProxyFence);
  if (!kHooked && only.empty() && ends_program) {
    ++not_looked_at;
    return;
  }
  emulator::print_faults(false);
  std::string seen;
  bool caught = false;
  for (int seed = 0; seed < within && !caught; ++seed) {
    const Outcome outcome = run_once(run, seed);
    for (const emulator::Fault& fault : outcome.faults) {
      seen = fault.text();
      for (const emulator::Kind kind : kinds)
        caught = caught || (fault.kind == kind && seen.find(in_report) != std::string::npos);
    }
    if ((kinds.empty() || (needs_hooks && !kHooked)) && outcome.wrong() && outcome.faults.empty()) {
      seen = "wrong numbers";
      caught = true;
    }
    if (!caught && outcome.wrong() && seen.empty()) seen = "only wrong numbers";
    if (caught) std::printf("  caught (seed %d): %s\n      %s\n", seed, name, seen.c_str());
  }
  emulator::print_faults(true);
  if (!caught && needs_hooks && !kHooked) {
    std::printf("  not seen without the hooks: %s\n", name);
    ++not_looked_at;
    return;
  }
  faults_caught += caught;
  check(caught, name, "was not caught as it should; last seen: " + (seen.empty() ? "nothing" : seen));
}

inline void start(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--only") only = argv[2];
}

inline int finish(const char* program) {
  std::printf("%s: %d clean runs, %d planted faults caught, %d checks FAILED", program, clean_runs,
              faults_caught, failures);
  if (not_looked_at != 0) std::printf(" (%d faults need the hooks that this build has not)", not_looked_at);
  std::printf("\n");
  return failures == 0 ? 0 : 1;
}

// The largest |a - b| / tolerance; not-a-number is infinitely wrong, and says so: std::max would lose it.
inline double worst(const std::vector<float>& result, const std::vector<double>& expected, double tolerance) {
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(result[i] - expected[i]) / tolerance;
    if (!(difference <= error)) error = difference;
    if (std::isnan(error)) return INFINITY;
  }
  return error;
}

inline std::vector<float> normal_numbers(size_t count, uint64_t seed) {
  emulator::Random random(seed);
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    double sum = 0;  // of uniform numbers: near enough
    for (int i = 0; i < 6; ++i) sum += static_cast<double>(random.bits() >> 11) * 0x1p-53 - 0.5;
    number = static_cast<float>(sum * 1.4142135623730951);
  }
  return numbers;
}

}  // namespace harness
