# GPTOSS_EMULATOR_TESTS: the emulator of tests/emulator and its tests, for CTest. No GPU, no toolkit.

option(GPTOSS_EMULATOR_TESTS "Build the GPU emulator and its tests, for CTest" OFF)
if(NOT GPTOSS_EMULATOR_TESTS)
  return()
endif()
if(GPTOSS_SANITIZE STREQUAL "thread")
  message(FATAL_ERROR "GPTOSS_EMULATOR_TESTS and GPTOSS_SANITIZE=thread exclude each other: the kernels' race detector is "
    "the emulator's own (tests/emulator/core/access.h), in every build, in place of ThreadSanitizer's runtime.")
endif()
enable_testing()

set(emulator ${PROJECT_SOURCE_DIR}/tests/emulator)
file(GLOB emulator_sources CONFIGURE_DEPENDS ${emulator}/core/*.cpp ${emulator}/runtime/*.cpp ${emulator}/cuda/*.cpp
  ${emulator}/hip/*.cpp)
add_library(gptoss_emulator STATIC ${emulator_sources})
target_include_directories(gptoss_emulator PUBLIC ${emulator})
target_compile_options(gptoss_emulator PRIVATE -Wno-unknown-pragmas)
target_include_directories(gptoss_emulator PRIVATE ${PROJECT_SOURCE_DIR}/csrc)
set_source_files_properties(${emulator}/hip/matrix.cpp PROPERTIES
  COMPILE_DEFINITIONS __HIP_PLATFORM_AMD__=1 INCLUDE_DIRECTORIES "${emulator}/hip;${PROJECT_SOURCE_DIR}/hip")

# Kernels are compiled with a call before each memory access and behind each index that leaves its array, for the
# emulator's own detector (core/access.h): the flags go to the compiler alone, so that no sanitizer's runtime is
# linked. AddressSanitizer excludes them.
set(emulator_checks "")
if(NOT GPTOSS_SANITIZE)
  set(emulator_checks -fsanitize=thread,bounds,alignment,shift-exponent)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND emulator_checks --param=tsan-distinguish-volatile=1)
  else()
    list(APPEND emulator_checks "SHELL:-mllvm -tsan-distinguish-volatile=1")
  endif()
endif()

# gptoss_add_emulator_test(name language sources...): a program whose kernels run in the emulator, with CUDA's headers
# or HIP's.
function(gptoss_add_emulator_test name language)
  add_executable(${name} ${ARGN})
  target_include_directories(${name} PRIVATE ${emulator}/${language} ${PROJECT_SOURCE_DIR}/csrc
    ${PROJECT_SOURCE_DIR}/cuda ${PROJECT_SOURCE_DIR}/hip)
  # Local variables that a kernel forgets to initialise hold a pattern that no result survives.
  target_compile_options(${name} PRIVATE -g -O1 -Wno-unknown-pragmas -ftrivial-auto-var-init=pattern ${emulator_checks})
  target_link_libraries(${name} PRIVATE gptoss_emulator)
  if(language STREQUAL "hip")
    target_compile_definitions(${name} PRIVATE __HIP_PLATFORM_AMD__=1)
  endif()
  add_test(NAME ${name} COMMAND ${name})
endfunction()

foreach(name simt_test tensor_core_test hopper_test host_test instruction_test)
  gptoss_add_emulator_test(${name} cuda ${emulator}/${name}.cpp)
endforeach()

# HIP, once for each size of a wave.
foreach(wave 64 32)
  gptoss_add_emulator_test(wave${wave}_test hip ${emulator}/wave_test.cpp)
  target_compile_definitions(wave${wave}_test PRIVATE GPTOSS_EMULATED_WAVE=${wave})
endforeach()
