// Included in front of llama.cpp's ggml-cpu/amx/amx.cpp (see amx.cmake), which prints to stderr what
// belongs in llama.cpp's log ("AMX is not ready to be used!", where the system does not grant it).
#pragma once
#include <cstdio>

#define fprintf(stream, ...) GGML_LOG_WARN(__VA_ARGS__)
