# gptoss_add_device(name sources...): a device plug-in, gptoss_device_<name>.so in the folder devices/ beside
# the module. It exports its one extern "C" entry and nothing else, and carries its own copy of what it uses of
# the engine.

if(GPTOSS_PYTHON_MODULE AND NOT SKBUILD)
  set(GPTOSS_DEVICES_DIR ${GPTOSS_PACKAGE}/devices)  # the developer's build: beside the Python sources
else()
  set(GPTOSS_DEVICES_DIR ${CMAKE_BINARY_DIR}/devices)
endif()

function(gptoss_add_device name)
  set(target gptoss_device_${name})
  add_library(${target} MODULE ${ARGN})
  target_include_directories(${target} PRIVATE ${GPTOSS_GENERATED})
  target_link_libraries(${target} PRIVATE gptoss_engine)
  set_target_properties(${target} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${GPTOSS_DEVICES_DIR})
  # Hidden visibility does not reach the templates of the standard library; the linker's list does.
  if(APPLE)
    target_link_options(${target} PRIVATE "LINKER:-exported_symbol,_gptoss_*")
  else()
    set(exports ${PROJECT_SOURCE_DIR}/cmake/device_exports.map)
    target_link_options(${target} PRIVATE "LINKER:--version-script=${exports}")
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${exports})
  endif()
  install(TARGETS ${target} LIBRARY DESTINATION gptoss_native/devices COMPONENT python)
endfunction()
