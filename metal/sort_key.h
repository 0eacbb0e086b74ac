// The order in which route and sample look for the best.
#pragma once

#include "port.h"

namespace gptoss {

// Ascending keys: largest value first, lowest id on ties. Not-a-number has a place, too: a choice is an expert.
inline U64 sort_key(float value, uint32_t id) { return static_cast<U64>(~sampling::ordered(value)) << 32 | id; }

}  // namespace gptoss
