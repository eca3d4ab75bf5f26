# Corrects llama.cpp's AMX code, and its Vulkan code for older headers. CMake includes this file after
# each project() of llama.cpp: `.cargo/config.toml` sets CMAKE_PROJECT_INCLUDE, and the build script
# of llama-cpp-sys-2 passes it on.
#
#   amx.h      in front of mmq.cpp: GCC would miscompile the tile instructions.
#   log.h      in front of amx.cpp: it prints to stderr, past llama.cpp's log.
#   vulkan.h   in front of ggml-vulkan.cpp: it wants newer headers than Debian 12 has.
#
# Each header is put in front of its one file. DEFER waits for the end of ggml's own CMakeLists.txt,
# when the folder that compiles the files is known.
if(PROJECT_NAME STREQUAL "ggml")
    set(AIRD_PAIRS "amx.h:ggml-cpu:amx/mmq.cpp" "log.h:ggml-cpu:amx/amx.cpp")
    if(GGML_VULKAN)
        list(APPEND AIRD_PAIRS "vulkan.h:ggml-vulkan:ggml-vulkan.cpp")
    endif()
    foreach(pair IN LISTS AIRD_PAIRS)
        string(REPLACE ":" ";" pair "${pair}")
        list(GET pair 0 AIRD_HEADER)
        list(GET pair 1 AIRD_FOLDER)
        list(GET pair 2 AIRD_SOURCE)
        set(AIRD_SOURCE "${CMAKE_CURRENT_SOURCE_DIR}/src/${AIRD_FOLDER}/${AIRD_SOURCE}")
        if(NOT EXISTS "${AIRD_SOURCE}")
            message(FATAL_ERROR
                "aird: ${AIRD_SOURCE} does not exist: adapt vendor/llama.cpp/amx.cmake")
        endif()
        cmake_language(EVAL CODE "
            cmake_language(DEFER CALL set_property
                SOURCE \"${AIRD_SOURCE}\"
                DIRECTORY \"${CMAKE_CURRENT_SOURCE_DIR}/src\"
                          \"${CMAKE_CURRENT_SOURCE_DIR}/src/${AIRD_FOLDER}\"
                APPEND PROPERTY COMPILE_OPTIONS
                -include \"${CMAKE_CURRENT_LIST_DIR}/${AIRD_HEADER}\")")
    endforeach()
endif()
