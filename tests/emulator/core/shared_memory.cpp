// Shared memory: __shared__ variables and the dynamic part, both poisoned with 0xff (NaN in every float
// format).
//
// A __shared__ variable is a thread_local one, so the linker collects them all in the program's TLS segment, and
// nothing else is there. Blocks run on one thread of the operating system and take turns: the segment's contents
// are changed with the block. In a shared object that was opened later the segment may be missing on a thread until it
// is first used: kernels there have dynamic shared memory only.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "access.h"
#include "fault.h"
#include "machine.h"
#include "object.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace emulator {
namespace {

char* static_begin = nullptr;  // on the thread of the operating system that runs the grid
size_t static_bytes = 0;
bool no_static_shared = false;

constexpr unsigned kAlignment = 1024;  // what the largest swizzle pattern needs
// The window that descriptors address: 1 KiB that the hardware keeps, static variables, dynamic memory.
constexpr uint32_t kStaticBase = 1024;
uint32_t dynamic_base() {
  const auto bytes = static_cast<uint32_t>(static_shared_bytes());
  return kStaticBase + (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

char* allocate_poisoned(size_t bytes) {
  char* memory = static_cast<char*>(::operator new (bytes + kAlignment, std::align_val_t{kAlignment}));
  std::memset(memory, 0xff, bytes + kAlignment);
  ASAN_POISON_MEMORY_REGION(memory + bytes, kAlignment);
  return memory;
}

void release(char* memory, size_t bytes) {
  forget_accesses(memory, bytes);
  ASAN_UNPOISON_MEMORY_REGION(memory, bytes + kAlignment);
  ::operator delete (memory, std::align_val_t{kAlignment});
}

}  // namespace

char* static_shared_begin() { return static_begin; }
size_t static_shared_bytes() { return static_bytes; }

void leave_thread_locals_alone() { no_static_shared = true; }

void find_static_shared() {
  if (no_static_shared) return;
  static_bytes = own_object().tls_bytes;
  static_begin = own_tls();
  if (static_bytes == 0 || static_begin != nullptr) return;
  std::fprintf(stderr, "emulator: a kernel in a shared object has static shared memory: make it dynamic\n");
  std::abort();
}

Block::Block(Grid& owner, unsigned linear)
    : grid(&owner),
      id(owner.first_block + static_cast<int>(linear)),
      index(unflatten(linear, owner.launch.grid)) {
  dynamic_shared = allocate_poisoned(owner.launch.dynamic_shared);
  static_shared = allocate_poisoned(static_shared_bytes());
}

Block::~Block() {
  for (Thread& thread : threads) machine.stacks.give_back(const_cast<char*>(thread.context.stack));
  release(dynamic_shared, grid->launch.dynamic_shared);
  release(static_shared, static_shared_bytes());
  if (machine.static_owner == this) machine.static_owner = nullptr;
}

void place_static_shared(Block& block) {
  if (machine.static_owner == &block) return;
  const size_t bytes = static_shared_bytes();
  if (bytes != 0) {
    if (machine.static_owner != nullptr)
      std::memcpy(machine.static_owner->static_shared, static_shared_begin(), bytes);
    std::memcpy(static_shared_begin(), block.static_shared, bytes);
  }
  machine.static_owner = &block;
}

uint32_t shared_address(const void* pointer, size_t bytes, const char* name, Site site) {
  const Inside inside;
  const char* p = static_cast<const char*>(pointer);
  const Block& block = *self().block;
  const size_t dynamic_bytes = block.grid->launch.dynamic_shared;
  if (p >= block.dynamic_shared && p + bytes <= block.dynamic_shared + dynamic_bytes)
    return dynamic_base() + static_cast<uint32_t>(p - block.dynamic_shared);
  if (p >= static_shared_begin() && p + bytes <= static_shared_begin() + static_shared_bytes())
    return kStaticBase + static_cast<uint32_t>(p - static_shared_begin());
  if (p >= block.dynamic_shared && p < block.dynamic_shared + dynamic_bytes + kAlignment)
    fault(Kind::kOutOfBounds, Where::of(site), "%s: %zu bytes at +%zu of %zu bytes of dynamic shared memory",
          name, bytes, static_cast<size_t>(p - block.dynamic_shared), dynamic_bytes);
  fault(Kind::kInstruction, Where::of(site), "%s: the address is not in shared memory", name);
}

char* shared_pointer(Block& block, uint32_t address, size_t bytes, const char* name, Site site) {
  const size_t dynamic_bytes = block.grid->launch.dynamic_shared;
  if (address >= dynamic_base() && address + bytes <= dynamic_base() + dynamic_bytes)
    return block.dynamic_shared + (address - dynamic_base());
  if (address >= kStaticBase && address + bytes <= kStaticBase + static_shared_bytes())
    return static_shared_begin() + (address - kStaticBase);
  fault(Kind::kOutOfBounds, Where::of(site), "%s: shared address 0x%x with %zu bytes is in no shared memory",
        name, address, bytes);
}

}  // namespace emulator
