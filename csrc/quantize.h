// bf16 weights in fewer bits: MXFP4, for checkpoints whose experts were kept in bf16, and 8 bits, for dense
// matrices. And MXFP4 as floats again.
#pragma once

#include <cstdint>

namespace gptoss {

struct QuantizationError {
  double squared_error = 0;   // sum over all weights
  double squared_weight = 0;
  double largest = 0;         // of the absolute errors
  bool finite = true;         // false: a weight, or what it became, was infinite or not a number: worthless
};

// weight bf16 (in, out), in a multiple of 32 -> blocks (out, in / 32, 16), scales (out, in / 32).
//
// Codes round to nearest, ties to the even code. The scale of a group is 2^(floor(log2 largest) - 2), the OCP MX
// rule, or twice that where the squared error is smaller. Weights that came from MXFP4 return to it unchanged.
QuantizationError quantize_mxfp4(const uint16_t* weight, int64_t in, int64_t out, uint8_t* blocks, uint8_t* scales);

inline constexpr int kInt8Group = 32;  // weights that share one scale

// weight bf16 (rows, k) -> values (rows, k in whole groups), scales (rows, groups): a weight is value * 2^(scale - 127).
//
// The scale is the smallest power of two with which the group's largest weight is at most 127 steps; values round to
// nearest, ties to even. A value has 7 bits and the scale none, so what stands for a weight is a bf16 too: products
// give the very bits that they give with those bf16, where they are not of integers (cpu/integers.inl). A group is stored as packed activations are: the 16 at even
// places, then the 16 at odd places; the last one is padded with zeros.
QuantizationError quantize_int8(const uint16_t* weight, int64_t rows, int64_t k, int8_t* values, uint8_t* scales);

// blocks (groups, 16), scales (groups) -> values (groups, 32)
void dequantize_mxfp4(const uint8_t* blocks, const uint8_t* scales, int64_t groups, float* values);

}  // namespace gptoss
