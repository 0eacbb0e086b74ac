# The kernels of metal/ as C++, an object for each stage, for whoever runs them in the emulator: GPTOSS_METAL_KERNELS.

set(GPTOSS_METAL_KERNELS "")
find_package(Python3 3.10 QUIET COMPONENTS Interpreter)
if(NOT Python3_Interpreter_FOUND)
  message(STATUS "gptoss_native: no Python 3.10 to prepare Metal's kernels for the emulator: they are left out")
  return()
endif()
set(GPTOSS_METAL_PROGRAM ${PROJECT_SOURCE_DIR}/metal CACHE PATH "The Metal program: a copy, where a test plants faults")
file(GLOB stages CONFIGURE_DEPENDS ${GPTOSS_METAL_PROGRAM}/*.metal)
list(REMOVE_ITEM stages ${GPTOSS_METAL_PROGRAM}/gptoss.metal)
list(APPEND stages ${emulator}/metal/pairs.metal)  # which is for metal_twins_test
file(GLOB metal_headers CONFIGURE_DEPENDS ${GPTOSS_METAL_PROGRAM}/*.h)
set(bind ${emulator}/metal/bind.py)
foreach(stage ${stages})
  get_filename_component(name ${stage} NAME_WE)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/metal_kernels/${name}.cpp)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/metal_kernels)
  add_custom_command(OUTPUT ${source}
    COMMAND ${Python3_EXECUTABLE} ${bind} ${stage} ${GPTOSS_METAL_PROGRAM} ${PROJECT_SOURCE_DIR}/csrc > ${source}
    DEPENDS ${stage} ${metal_headers} ${emulator}/metal/pairs.h ${PROJECT_SOURCE_DIR}/csrc/args.h ${PROJECT_SOURCE_DIR}/csrc/language.h
      ${PROJECT_SOURCE_DIR}/csrc/numeric.h ${PROJECT_SOURCE_DIR}/csrc/pair.h ${PROJECT_SOURCE_DIR}/csrc/sampling.h ${PROJECT_SOURCE_DIR}/csrc/swiglu.h ${bind} VERBATIM)
  list(APPEND kernel_sources ${source})
endforeach()
add_library(gptoss_metal_kernels OBJECT ${kernel_sources})
target_include_directories(gptoss_metal_kernels PRIVATE ${emulator}/metal ${emulator})
target_compile_options(gptoss_metal_kernels PRIVATE -g -O1 -Wno-unknown-pragmas -Wno-unused-parameter -Wno-unused-function
  -ftrivial-auto-var-init=pattern ${emulator_checks})
set(GPTOSS_METAL_KERNELS $<TARGET_OBJECTS:gptoss_metal_kernels>)
