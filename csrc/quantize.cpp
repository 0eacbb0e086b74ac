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
  double error;    // sum of squares
  double largest;  // of one weight
};

Coded encode(const float* values, int exponent) {
  Coded coded;
  double error = 0, largest = 0;
  for (int i = 0; i < kMxfp4Group; ++i) {
    const float scaled = std::ldexp(values[i], -exponent);
    const int code = nearest_code(std::fabs(scaled)) | (std::signbit(scaled) ? 8 : 0);
    const double difference = std::ldexp(static_cast<double>(scaled) - kE2m1[code], exponent);
    error += difference * difference;
    largest = std::max(largest, std::fabs(difference));
    coded.codes[i] = static_cast<uint8_t>(code);
  }
  coded.error = error;
  coded.largest = largest;
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
        result.largest = std::max(result.largest, best.largest);
        const int64_t at = (column + c) * groups + group;
        scales[at] = static_cast<uint8_t>(chosen + 127);
        for (int b = 0; b < kMxfp4GroupBytes; ++b)
          blocks[at * kMxfp4GroupBytes + b] = static_cast<uint8_t>(best.codes[2 * b] | best.codes[2 * b + 1] << 4);
      }
    }
  }
  return result;
}

QuantizationError quantize_int8(const uint16_t* weight, int64_t rows, int64_t k, int8_t* values, uint8_t* scales) {
  constexpr int kHalf = kInt8Group / 2;
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction bits
  constexpr uint32_t k127 = 0x7e0000;    // the mantissa of 127
  QuantizationError result;
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t from = 0; from < k; from += kInt8Group, values += kInt8Group, ++scales) {
      uint16_t group[kInt8Group] = {};
      std::copy_n(weight + row * k + from, std::min<int64_t>(kInt8Group, k - from), group);
      uint16_t magnitude = 0;
      for (uint16_t bits : group) magnitude = std::max<uint16_t>(magnitude, bits & 0x7fff);
      result.finite = result.finite && magnitude < 0x7f7f;  // the largest bf16 would round to 2^128
      const uint32_t largest = static_cast<uint32_t>(magnitude) << 16;
      const int scale = static_cast<int>(largest >> 23) - 6 + ((largest & 0x7fffff) > k127 ? 1 : 0);
      *scales = static_cast<uint8_t>(std::max(scale, 0));
      const float step = e8m0_to_float(*scales), steps = float_from_bits(static_cast<uint32_t>(254 - *scales) << 23);
      float squared_error = 0, squared_weight = 0, worst = 0;
      for (int place = 0; place < 2; ++place)
        for (int i = 0; i < kHalf; ++i) {
          const float w = bf16_to_float(group[2 * i + place]), q = (w * steps + kWhole) - kWhole, error = q * step - w;
          values[place * kHalf + i] = static_cast<int8_t>(static_cast<int>(q));
          squared_error += error * error;
          squared_weight += w * w;
          worst = std::max(worst, std::fabs(error));
        }
      result.squared_error += squared_error;
      result.squared_weight += squared_weight;
      result.largest = std::max<double>(result.largest, worst);
    }
  return result;
}

void dequantize_mxfp4(const uint8_t* blocks, const uint8_t* scales, int64_t groups, float* values) {
  for (int64_t group = 0; group < groups; ++group, blocks += kMxfp4GroupBytes, values += kMxfp4Group) {
    const float scale = e8m0_to_float(scales[group]);
    for (int b = 0; b < kMxfp4GroupBytes; ++b) {
      values[2 * b] = kE2m1[blocks[b] & 15] * scale;
      values[2 * b + 1] = kE2m1[blocks[b] >> 4] * scale;
    }
  }
}

}  // namespace gptoss
