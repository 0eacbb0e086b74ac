#include "object.h"

#include <link.h>
#include <unistd.h>

#include <algorithm>

namespace emulator {
namespace {

// Whether the object holds this very code.
bool is_own(const dl_phdr_info& info, LoadedObject& object) {
  uintptr_t begin = UINTPTR_MAX, end = 0;
  size_t tls = 0;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const auto& header = info.dlpi_phdr[i];
    if (header.p_type == PT_TLS) tls = header.p_memsz;
    if (header.p_type != PT_LOAD) continue;
    begin = std::min<uintptr_t>(begin, info.dlpi_addr + header.p_vaddr);
    end = std::max<uintptr_t>(end, info.dlpi_addr + header.p_vaddr + header.p_memsz);
  }
  const auto here = reinterpret_cast<uintptr_t>(&own_object);
  if (here < begin || here >= end) return false;
  object = {info.dlpi_name, info.dlpi_addr, reinterpret_cast<const char*>(begin), reinterpret_cast<const char*>(end), tls};
  return true;
}

LoadedObject find() {
  LoadedObject object{};
  dl_iterate_phdr([](dl_phdr_info* info, size_t, void* result) -> int {
    return is_own(*info, *static_cast<LoadedObject*>(result));
  }, &object);
  if (object.path.empty()) {  // the program itself has no name here
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    if (length > 0) object.path.assign(path, static_cast<size_t>(length));
  }
  return object;
}

}  // namespace

const LoadedObject& own_object() {
  static const LoadedObject object = find();
  return object;
}

char* own_tls() {
  if (own_object().tls_bytes == 0) return nullptr;
  char* tls = nullptr;
  dl_iterate_phdr([](dl_phdr_info* info, size_t, void* result) -> int {
    LoadedObject object;
    if (!is_own(*info, object)) return 0;
    *static_cast<char**>(result) = static_cast<char*>(info->dlpi_tls_data);
    return 1;
  }, &tls);
  return tls;
}

}  // namespace emulator
