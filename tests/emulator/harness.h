// What the emulator's tests share: cases that run a kernel over many seeds, clean or with a planted fault.
//
// A clean kernel has to be right and silent with every seed. A planted fault is caught when a detector names it, or
// the numbers are wrong; the case says which of the two, and within how many seeds.
#pragma once

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
#include "runtime/stream.h"

namespace harness {

inline int failures = 0;
inline int clean_runs = 0, faults_caught = 0;

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
  emulator::seed(seed);
  Outcome outcome;
  outcome.error = run();
  outcome.faults = emulator::take_faults();
  emulator::reset_device();
  return outcome;
}

inline void expect_clean(const char* name, const Run& run, int usual_seeds = 20) {
  for (int seed = 0; seed < seeds(usual_seeds); ++seed) {
    const Outcome outcome = run_once(run, seed);
    ++clean_runs;
    if (!outcome.wrong() && outcome.faults.empty()) continue;
    check(false, name, "with seed " + std::to_string(seed) + ": error " + std::to_string(outcome.error) +
                           " of its tolerance, " + std::to_string(outcome.faults.size()) + " faults");
    return;
  }
}

// `kinds`: the detectors that may name it; without any, only the numbers show it.
inline void expect_caught(const char* name, const std::vector<emulator::Kind>& kinds, const Run& run,
                          const char* in_report = "", int within = 8) {
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
    if (kinds.empty() && outcome.wrong() && outcome.faults.empty()) {
      seen = "wrong numbers";
      caught = true;
    }
    if (!caught && outcome.wrong() && seen.empty()) seen = "only wrong numbers";
    if (caught) std::printf("  caught (seed %d): %s\n      %s\n", seed, name, seen.c_str());
  }
  emulator::print_faults(true);
  faults_caught += caught;
  check(caught, name, "was not caught as it should; last seen: " + (seen.empty() ? "nothing" : seen));
}

inline int finish(const char* program) {
  std::printf("%s: %d clean runs, %d planted faults caught, %d checks FAILED\n", program, clean_runs, faults_caught,
              failures);
  return failures == 0 ? 0 : 1;
}

// The largest |a - b| / tolerance; not-a-number is infinitely wrong.
inline double worst(const std::vector<float>& result, const std::vector<double>& expected, double tolerance) {
  double error = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(result[i] - expected[i]) / tolerance;
    if (!(difference <= error)) error = difference;
    if (std::isnan(error)) return error;
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
