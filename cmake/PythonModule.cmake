# The module _core: bindings*.cpp around the engine.

find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
if(NOT Python_Interpreter_FOUND)
  message(FATAL_ERROR "No Python >= 3.10 was found; name one with -DPython_EXECUTABLE=/path/to/python3.")
elseif(NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR "${Python_EXECUTABLE} has no C headers. On Debian and Ubuntu: apt install python3-dev "
    "(python3.X-dev for a Python that is not the system's).")
endif()

if(NOT SKBUILD AND NOT pybind11_DIR)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir OUTPUT_VARIABLE pybind11_DIR
    OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    message(FATAL_ERROR "${Python_EXECUTABLE} has no pybind11. Install it there "
      "(python -m pip install 'pybind11>=3.1,<4'), or name another Python with -DPython_EXECUTABLE=/path/to/python3.")
  endif()
endif()
find_package(pybind11 3.1 CONFIG REQUIRED)

file(GLOB binding_sources CONFIGURE_DEPENDS csrc/bindings*.cpp)
# NO_EXTRAS: no link-time optimisation; it would multiply the time of this one file.
pybind11_add_module(_core MODULE NO_EXTRAS ${binding_sources})
target_link_libraries(_core PRIVATE gptoss_engine)
if(GPTOSS_SANITIZE)  # minutes, else, for checks around templates that are not ours
  target_compile_options(_core PRIVATE -O1)
endif()
install(TARGETS _core LIBRARY DESTINATION gptoss_native COMPONENT python)

if(NOT SKBUILD)  # the developer's build: beside the Python sources, for PYTHONPATH=python
  set_target_properties(_core PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${GPTOSS_PACKAGE})
endif()
