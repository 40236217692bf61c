#pragma once
#include <stddef.h>
#include <stdint.h>

// libFuzzer's own interface for programs that have a main function (LLVM, "libFuzzer: using libFuzzer as a library").
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *data, size_t count));
