#include "memory.h"

#include <sys/mman.h>

#include <stdexcept>
#include <string>

namespace gptoss::cpu {

Memory::Memory(size_t bytes, const char* what) : bytes_(bytes) {
  if (bytes == 0) return;
  void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED)
    throw std::runtime_error("out of memory: the system refused " + std::to_string(bytes) + " bytes for the " + what);
#if defined(MADV_HUGEPAGE)
  madvise(block, bytes, MADV_HUGEPAGE);  // a wish, not a need: fewer page walks in long attention
#endif
  data_ = static_cast<uint8_t*>(block);
}

Memory::~Memory() {
  if (data_) munmap(data_, bytes_);
}

}  // namespace gptoss::cpu
