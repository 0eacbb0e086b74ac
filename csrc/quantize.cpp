#include "quantize.h"

#include <algorithm>
#include <cmath>

#include "numeric.h"

namespace gptoss {
namespace {

constexpr int kStrip = 64;  // columns at a time: their rows are contiguous in the source

// Magnitude index of the nearest of 0, .5, 1, 1.5, 2, 3, 4, 6; a tie goes to the even index.
inline int nearest_code(float magnitude) {
  return (magnitude > 0.25f) + (magnitude >= 0.75f) + (magnitude > 1.25f) + (magnitude >= 1.75f) + (magnitude > 2.5f) +
         (magnitude >= 3.5f) + (magnitude > 5.0f);
}

struct Coded {
  uint8_t codes[kMxfp4Group];
  double error;
};

Coded encode(const float* values, int exponent) {
  Coded coded;
  double error = 0;
  for (int i = 0; i < kMxfp4Group; ++i) {
    const float scaled = std::ldexp(values[i], -exponent);
    const int code = nearest_code(std::fabs(scaled)) | (std::signbit(scaled) ? 8 : 0);
    const double difference = std::ldexp(static_cast<double>(scaled) - kE2m1[code], exponent);
    error += difference * difference;
    coded.codes[i] = static_cast<uint8_t>(code);
  }
  coded.error = error;
  return coded;
}

}  // namespace

QuantizationError quantize_mxfp4(const uint16_t* weight, int64_t in, int64_t out, uint8_t* blocks, uint8_t* scales) {
  QuantizationError result;
  const int64_t groups = in / kMxfp4Group;
  float strip[kStrip][kMxfp4Group];
  for (int64_t column = 0; column < out; column += kStrip) {
    const int columns = static_cast<int>(std::min<int64_t>(kStrip, out - column));
    for (int64_t group = 0; group < groups; ++group) {
      for (int k = 0; k < kMxfp4Group; ++k) {
        const uint16_t* row = weight + (group * kMxfp4Group + k) * out + column;
        for (int c = 0; c < columns; ++c) strip[c][k] = bf16_to_float(row[c]);
      }
      for (int c = 0; c < columns; ++c) {
        const float* values = strip[c];
        float largest = 0;
        for (int k = 0; k < kMxfp4Group; ++k) {
          largest = std::max(largest, std::fabs(values[k]));
          result.finite = result.finite && std::isfinite(values[k]);
          result.squared_weight += static_cast<double>(values[k]) * values[k];
        }
        const int lowest = -127, highest = 127;
        const int exponent = largest > 0 ? std::clamp(std::ilogb(largest) - 2, lowest, highest) : lowest;
        Coded best = encode(values, exponent);
        int chosen = exponent;
        if (best.error > 0 && exponent < highest) {
          const Coded wider = encode(values, exponent + 1);
          if (wider.error < best.error) best = wider, chosen = exponent + 1;
        }
        result.squared_error += best.error;
        const int64_t at = (column + c) * groups + group;
        scales[at] = static_cast<uint8_t>(chosen + 127);
        for (int b = 0; b < kMxfp4GroupBytes; ++b)
          blocks[at * kMxfp4GroupBytes + b] = static_cast<uint8_t>(best.codes[2 * b] | best.codes[2 * b + 1] << 4);
      }
    }
  }
  return result;
}

}  // namespace gptoss
