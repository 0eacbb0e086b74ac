#include "memory.h"

#include <sys/mman.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace gptoss::cpu {
namespace {

std::atomic<size_t> total{0};

}  // namespace

Memory::Memory(size_t bytes, const char* what) : bytes_(bytes) {
  if (bytes == 0) return;
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED)
    throw std::runtime_error("out of memory: the system refused " + std::to_string(bytes) + " bytes for the " + what);
#if defined(MADV_HUGEPAGE)
  madvise(block, bytes, MADV_HUGEPAGE);  // a wish, not a need: fewer page walks in long attention
#endif
  data_ = static_cast<uint8_t*>(block);
  total += bytes;
}

Memory::~Memory() {
  if (!data_) return;
  munmap(data_, bytes_);
  total -= bytes_;
}

size_t Memory::allocated() { return total; }

}  // namespace gptoss::cpu
