// The program, or the shared object, that the emulator and its kernels are part of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulator {

struct LoadedObject {
  std::string path;        // what addr2line is to open
  uintptr_t load_address;  // to be taken from addresses for it
  const char *begin, *end; // its code and data
  size_t tls_bytes;        // of its thread-local variables
};
const LoadedObject& own_object();
// Its thread-local variables as the calling thread has them; null where there are none.
char* own_tls();

}  // namespace emulator
