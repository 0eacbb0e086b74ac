#include "where.h"

#include <cstdio>
#include <cstring>
#include <map>
#include <sstream>
#include <vector>

#include "object.h"

namespace emulator {
namespace {

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

#if defined(__aarch64__)
constexpr const char* kAddr2Line[] = {"aarch64-linux-gnu-addr2line", "addr2line"};
#else
constexpr const char* kAddr2Line[] = {"addr2line"};
#endif

// The lines that addr2line prints for an address of the program, or of the shared object that this is part of.
std::vector<std::string> ask_addr2line(const char* options, uintptr_t address) {
  std::vector<std::string> lines;
  for (const char* tool : kAddr2Line) {
    std::ostringstream command;
    command << tool << " " << options << " -e '" << own_object().path << "' 0x" << std::hex << address << " 2>/dev/null";
    FILE* pipe = popen(command.str().c_str(), "r");
    if (pipe == nullptr) continue;
    for (char line[4096]; std::fgets(line, sizeof line, pipe) != nullptr;) {
      lines.emplace_back(line);
      lines.back().erase(lines.back().find_last_not_of("\n") + 1);
    }
    pclose(pipe);
    if (!lines.empty()) break;
  }
  return lines;
}

// "reduce.cu:41 < reduce.cu:60": the line, and the lines that it was inlined into.
std::string source_lines(uintptr_t address) {
  std::string result;
  for (const std::string& line : ask_addr2line("-i", address)) {
    const std::string text = base_name(line.substr(0, line.find(" (")));
    if (text.empty() || text[0] == '?') continue;
    result += (result.empty() ? "" : " < ") + text;
  }
  return result;
}

std::string hexadecimal(uintptr_t address) {
  char hex[40];
  std::snprintf(hex, sizeof hex, "code address 0x%zx", static_cast<size_t>(address));
  return hex;
}

// "void reduce<(Fault)1>(float const*, float*)" without its type and its parameters.
std::string without_parameters(const std::string& function) {
  int depth = 0;
  size_t begin = function.rfind("void ", 0) == 0 ? 5 : 0;
  for (size_t i = begin; i < function.size(); ++i) {
    depth += (function[i] == '<') - (function[i] == '>');
    if (depth == 0 && function[i] == '(' && function.compare(i, 11, "(anonymous ") != 0)
      return function.substr(begin, i - begin);
  }
  return function.substr(begin);
}

}  // namespace

std::string Where::text() const {
  if (!known()) return "an unknown line";
  if (bits_ & kIsSite)
    return base_name(reinterpret_cast<const char*>(bits_ & ~kIsSite)) + ":" + std::to_string(line_);
  static std::map<uintptr_t, std::string> known_lines;
  // The call instruction ends one byte before the address that it returns to.
  const uintptr_t address = static_cast<uintptr_t>(bits_) - 1 - own_object().load_address;
  std::string& text = known_lines[address];
  if (text.empty()) text = source_lines(address);
  if (text.empty()) text = hexadecimal(address);
  return text;
}

std::string kernel_name(const void* code) {
  static std::map<const void*, std::string> names;
  std::string& name = names[code];
  if (!name.empty()) return name;
  const uintptr_t address = reinterpret_cast<uintptr_t>(code) - own_object().load_address;
  const std::vector<std::string> lines = ask_addr2line("-f -C", address);
  if (!lines.empty() && lines[0][0] != '?') name = without_parameters(lines[0]);
  if (name.empty()) name = hexadecimal(address);
  return name;
}

}  // namespace emulator
