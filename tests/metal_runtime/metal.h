// Metal's side of the fake: devices, buffers, encoders, command buffers, with the rules that Metal's own validation has.
#pragma once

#include <string>

#include "objc.h"

namespace fake_metal {

void add_metal();
Object* allocate(const std::string& type);  // [Type alloc]; null for a type that has none

// How often that was asked of Metal: the first word of a line of FAKE_METAL_TRACE.
int asked(const std::string& what);

}  // namespace fake_metal
