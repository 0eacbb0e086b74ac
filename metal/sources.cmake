# The host's part of the Metal device, for its plug-in and for the one that tests build over a runtime of their own.

set(GPTOSS_METAL_DIR ${CMAKE_CURRENT_LIST_DIR})
set(gptoss_metal_simt gpu_backend gpu_state gpu_weights ops runtime stages)
list(TRANSFORM gptoss_metal_simt PREPEND ${PROJECT_SOURCE_DIR}/csrc/simt/)
list(TRANSFORM gptoss_metal_simt APPEND .cpp)
set(GPTOSS_METAL_SOURCES ${gptoss_metal_simt} ${GPTOSS_METAL_DIR}/backend.cpp)
# Those that include metal-cpp.
set(GPTOSS_METAL_CPP_SOURCES ${GPTOSS_METAL_DIR}/device.cpp ${GPTOSS_METAL_DIR}/runtime/calls.cpp
  ${GPTOSS_METAL_DIR}/runtime/device.cpp ${GPTOSS_METAL_DIR}/runtime/metal_cpp.cpp ${GPTOSS_METAL_DIR}/runtime/stream.cpp)

# The kernels' text, put together: metal_program.h.
file(GLOB gptoss_metal_program CONFIGURE_DEPENDS ${GPTOSS_METAL_DIR}/*.metal ${GPTOSS_METAL_DIR}/*.h)
list(APPEND gptoss_metal_program ${PROJECT_SOURCE_DIR}/csrc/args.h ${PROJECT_SOURCE_DIR}/csrc/language.h
  ${PROJECT_SOURCE_DIR}/csrc/numeric.h ${PROJECT_SOURCE_DIR}/csrc/pair.h ${PROJECT_SOURCE_DIR}/csrc/sampling.h ${PROJECT_SOURCE_DIR}/csrc/swiglu.h)
set(gptoss_metal_header ${GPTOSS_GENERATED}/metal/metal_program.h)
add_custom_command(OUTPUT ${gptoss_metal_header}
  COMMAND ${CMAKE_COMMAND} -DPROGRAM=${GPTOSS_METAL_DIR}/gptoss.metal -DFOLDERS=${PROJECT_SOURCE_DIR}/csrc
    -DHEADER=${gptoss_metal_header} -P ${GPTOSS_METAL_DIR}/flatten.cmake
  DEPENDS ${gptoss_metal_program} ${GPTOSS_METAL_DIR}/flatten.cmake VERBATIM)
list(APPEND GPTOSS_METAL_SOURCES ${gptoss_metal_header})

# gptoss_use_metal(target): what all these need to compile.
function(gptoss_use_metal target)
  target_include_directories(${target} PRIVATE ${GPTOSS_METAL_DIR} ${GPTOSS_METAL_DIR}/runtime
    ${PROJECT_SOURCE_DIR}/csrc ${GPTOSS_GENERATED}/metal)
  target_compile_definitions(${target} PRIVATE GPTOSS_METAL_HOST=1)
endfunction()
