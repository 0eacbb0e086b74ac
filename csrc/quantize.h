// bf16 weights -> MXFP4, for checkpoints whose experts were kept in bf16.
#pragma once

#include <cstdint>

namespace gptoss {

struct QuantizationError {
  double squared_error = 0;   // sum over all weights
  double squared_weight = 0;
  bool finite = true;         // false: a weight was infinite or not a number, and the result is worthless
};

// weight bf16 (in, out), in a multiple of 32 -> blocks (out, in / 32, 16), scales (out, in / 32).
//
// Codes round to nearest, ties to the even code. The scale of a group is 2^(floor(log2 largest) - 2), the OCP MX
// rule, or twice that where the squared error is smaller. Weights that came from MXFP4 return to it unchanged.
QuantizationError quantize_mxfp4(const uint16_t* weight, int64_t in, int64_t out, uint8_t* blocks, uint8_t* scales);

}  // namespace gptoss
