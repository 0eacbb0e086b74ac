// A place in a kernel's source: known to the compiler (the call of a wrapper) or found from a return address.
#pragma once

#include <cstdint>
#include <source_location>
#include <string>

namespace emulator {

// Every function that stands for an instruction ends with `Site site = Site::current()`.
using Site = std::source_location;

class Where {
 public:
  Where() = default;
  static Where of(Site site) {  // a source_location is one pointer to constant data
    static_assert(sizeof(Site) == sizeof(void*));
    Where where;
    where.bits_ = reinterpret_cast<uint64_t>(site.file_name()) | kIsSite;
    where.line_ = site.line();
    return where;
  }
  static Where of(const void* return_address) {
    Where where;
    where.bits_ = reinterpret_cast<uint64_t>(return_address);
    return where;
  }
  bool known() const { return bits_ != 0; }
  // "reduce.cu:41", and for a return address also what was inlined into what, innermost first.
  std::string text() const;

 private:
  static constexpr uint64_t kIsSite = uint64_t{1} << 63;
  uint64_t bits_ = 0;
  uint32_t line_ = 0;
};

// The name of the function with this code.
std::string kernel_name(const void* code);

}  // namespace emulator
