// What the compiler calls where an index leaves an array of known size, or a pointer is not aligned as its type wants
// (-fsanitize=bounds,alignment), or a shift is too wide for its
// type (-fsanitize=shift-exponent: `1u << lane` in a wave of 64): the interface of UndefinedBehaviorSanitizer's runtime. Static shared arrays are
// watched so, and vector accesses that the compiler takes apart.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fault.h"
#include "machine.h"

namespace {

struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
struct TypeDescriptor {
  uint16_t kind, info;
  char name[1];
};
struct TypeMismatch {
  SourceLocation location;
  const TypeDescriptor* type;
  unsigned char log_alignment, check;
};
struct ShiftOutOfBounds {
  SourceLocation location;
  const TypeDescriptor *left, *right;
};
struct OutOfBounds {
  SourceLocation location;
  const TypeDescriptor *array, *index;
};

[[noreturn]] void host_error(const SourceLocation& location, const char* what) {
  std::fprintf(stderr, "emulator: %s:%u, in the host's part: %s\n", location.file, location.line, what);
  std::abort();
}

}  // namespace

#define HOOK extern "C" __attribute__((visibility("default"))) void

HOOK __ubsan_handle_type_mismatch_v1(TypeMismatch* data, uintptr_t pointer) {
  using namespace emulator;
  if (machine.current == nullptr) host_error(data->location, "a misaligned pointer");
  const size_t alignment = size_t{1} << data->log_alignment;
  fault(Kind::kMisaligned, Where::of(__builtin_return_address(0)), "a pointer to %s is %zu modulo %zu", data->type->name,
        static_cast<size_t>(pointer % alignment), alignment);
}

HOOK __ubsan_handle_out_of_bounds(OutOfBounds* data, uintptr_t index) {
  using namespace emulator;
  if (machine.current == nullptr) host_error(data->location, "an index outside an array");
  fault(Kind::kOutOfBounds, Where::of(__builtin_return_address(0)), "index %lld of an array of type %s",
        static_cast<long long>(index), data->array->name);
}

HOOK __ubsan_handle_shift_out_of_bounds(ShiftOutOfBounds* data, uintptr_t, uintptr_t distance) {
  using namespace emulator;
  if (machine.current == nullptr) host_error(data->location, "a shift by more than the type has bits");
  fault(Kind::kInstruction, Where::of(__builtin_return_address(0)), "a shift of %s by %lld", data->left->name,
        static_cast<long long>(distance));
}
