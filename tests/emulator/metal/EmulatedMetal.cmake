# The plug-in `emulated_metal`: the sources of the Metal device, metal-cpp as Apple has it, a fake of what is below it
# (tests/metal_runtime), and the kernels in the emulator.

include(${PROJECT_SOURCE_DIR}/metal/sources.cmake)

if(NOT EXISTS ${GPTOSS_EMULATED_METAL}/Metal/Metal.hpp)
  message(FATAL_ERROR "GPTOSS_EMULATED_METAL=${GPTOSS_EMULATED_METAL} holds no Metal/Metal.hpp; expected the folder of metal-cpp.")
endif()

# metal-cpp has blocks, which only Clang knows: it compiles the files that include it, and they are linked with the rest.
# GPTOSS_CLANG: the command, as a list.
if(NOT GPTOSS_CLANG)
  find_program(GPTOSS_CLANGXX NAMES clang++ clang++-20 clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14)
  if(NOT GPTOSS_CLANGXX)
    message(FATAL_ERROR "GPTOSS_EMULATED_METAL needs clang++, for the blocks in Apple's headers. Install it, or set GPTOSS_CLANG.")
  endif()
  set(GPTOSS_CLANG ${GPTOSS_CLANGXX})
endif()
set(stubs ${PROJECT_SOURCE_DIR}/tests/metal_runtime/stubs)
set(objects "")
# They come from GPTOSS_METAL_PROGRAM, as the kernels do: tests plant faults in these, too.
file(GLOB_RECURSE host_headers ${PROJECT_SOURCE_DIR}/csrc/*.h ${GPTOSS_METAL_PROGRAM}/*.h ${stubs}/*.h)
set(runtime_objects "")
foreach(source ${GPTOSS_METAL_CPP_SOURCES})
  file(RELATIVE_PATH name ${GPTOSS_METAL_DIR} ${source})
  set(source ${GPTOSS_METAL_PROGRAM}/${name})
  string(REPLACE "/" "_" name ${name})
  set(object ${CMAKE_CURRENT_BINARY_DIR}/metal_cpp/${name}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/metal_cpp
    COMMAND ${GPTOSS_CLANG} -x c++ -std=c++20 -stdlib=libstdc++ -fblocks -fPIC -fvisibility=hidden -O0 -Wall -Wextra
      -DGPTOSS_METAL_HOST=1 -I${GPTOSS_METAL_PROGRAM} -I${GPTOSS_METAL_PROGRAM}/runtime -I${PROJECT_SOURCE_DIR}/csrc
      -I${GPTOSS_GENERATED} -I${GPTOSS_GENERATED}/metal -isystem ${GPTOSS_EMULATED_METAL} -isystem ${stubs}
      -c ${source} -o ${object}
    DEPENDS ${source} ${host_headers} ${gptoss_metal_header} VERBATIM COMMAND_EXPAND_LISTS)
  list(APPEND objects ${object})
  if(name MATCHES "^runtime_")
    list(APPEND runtime_objects ${object})
  endif()
endforeach()

file(GLOB fake_metal_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/metal_runtime/*.cpp)
add_library(gptoss_fake_metal OBJECT ${fake_metal_sources})
set_target_properties(gptoss_fake_metal PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
target_include_directories(gptoss_fake_metal SYSTEM PRIVATE ${stubs})
target_include_directories(gptoss_fake_metal PRIVATE ${emulator})
target_compile_options(gptoss_fake_metal PRIVATE -g -O1)
set(fake_metal $<TARGET_OBJECTS:gptoss_fake_metal>)
# Of the engine it needs little, and is linked with that alone: the rest would have to be compiled for it.
add_library(gptoss_device_emulated_metal MODULE ${GPTOSS_METAL_SOURCES} ${objects} ${fake_metal} ${GPTOSS_METAL_KERNELS}
  ${PROJECT_SOURCE_DIR}/csrc/model.cpp ${PROJECT_SOURCE_DIR}/csrc/rope.cpp)
set_target_properties(gptoss_device_emulated_metal PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${GPTOSS_DEVICES_DIR})
target_link_options(gptoss_device_emulated_metal PRIVATE
  "LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/device_exports.map")
gptoss_use_metal(gptoss_device_emulated_metal)
target_include_directories(gptoss_device_emulated_metal PRIVATE ${emulator} ${GPTOSS_GENERATED})
target_compile_options(gptoss_device_emulated_metal PRIVATE -g -O1)
target_link_libraries(gptoss_device_emulated_metal PRIVATE gptoss_emulator)

# metal/runtime by itself.
add_executable(metal_runtime_test ${emulator}/metal_runtime_test.cpp ${runtime_objects} ${fake_metal} ${GPTOSS_METAL_KERNELS}
  ${gptoss_metal_header})
gptoss_use_metal(metal_runtime_test)
target_include_directories(metal_runtime_test PRIVATE ${emulator} ${PROJECT_SOURCE_DIR}/tests)
target_compile_options(metal_runtime_test PRIVATE -g -O1)
target_link_libraries(metal_runtime_test PRIVATE gptoss_emulator)
add_test(NAME metal_runtime_test COMMAND metal_runtime_test)
