# Flags that every C++ file of the project is compiled with. Those of other languages, nvcc's say, are in their folders.

if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  message(FATAL_ERROR "gptoss_native is built with GCC or Clang; CMake found ${CMAKE_CXX_COMPILER_ID} "
    "(${CMAKE_CXX_COMPILER}). Set CXX to g++ or clang++.")
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

# A product and a sum are fused only where the source says so. Left to itself, GCC fuses whatever the file's flags
# allow, intrinsics included, and differently in a loop's body and its tail: results would depend on the batch and
# the chunking. For the same reason there is no -ffast-math. And no -march=native: one build serves every machine
# of its architecture.
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-ffp-contract=off>")

if(GPTOSS_SANITIZE STREQUAL "address")
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(GPTOSS_SANITIZE STREQUAL "thread")
  set(sanitizers -fsanitize=thread)
elseif(NOT GPTOSS_SANITIZE STREQUAL "")
  message(FATAL_ERROR "GPTOSS_SANITIZE is \"${GPTOSS_SANITIZE}\"; expected address, thread or nothing.")
endif()
if(GPTOSS_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${sanitizers};-fno-omit-frame-pointer;-D_GLIBCXX_ASSERTIONS>")
  add_link_options(${sanitizers})
endif()

set(GPTOSS_BUILD_TYPE ${CMAKE_BUILD_TYPE})
if(GPTOSS_SANITIZE)
  string(APPEND GPTOSS_BUILD_TYPE " (${GPTOSS_SANITIZE} sanitizer)")
endif()
set(GPTOSS_GENERATED ${CMAKE_BINARY_DIR}/generated)
