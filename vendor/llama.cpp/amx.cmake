# Corrects llama.cpp's AMX kernels where GCC would miscompile them. CMake includes this file after each
# project() of llama.cpp: `.cargo/config.toml` sets CMAKE_PROJECT_INCLUDE, and the build script of
# llama-cpp-sys-2 passes it on. See amx.h for the fault.
#
# The header is put in front of mmq.cpp only: the other sources do not use tiles. DEFER waits for the
# end of ggml's own CMakeLists.txt, when the folder that compiles the file is known.
if(PROJECT_NAME STREQUAL "ggml")
    set(AIRD_AMX_HEADER "${CMAKE_CURRENT_LIST_DIR}/amx.h")
    set(AIRD_AMX_SOURCE "${CMAKE_CURRENT_SOURCE_DIR}/src/ggml-cpu/amx/mmq.cpp")
    if(EXISTS "${AIRD_AMX_SOURCE}")
        cmake_language(DEFER CALL set_property
            SOURCE "${AIRD_AMX_SOURCE}"
            DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/src" "${CMAKE_CURRENT_SOURCE_DIR}/src/ggml-cpu"
            APPEND PROPERTY COMPILE_OPTIONS -include "${AIRD_AMX_HEADER}")
    else()
        message(FATAL_ERROR "aird: ${AIRD_AMX_SOURCE} is not there: see vendor/llama.cpp/amx.cmake")
    endif()
endif()
