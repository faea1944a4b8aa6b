/* A VST3 module that goes wrong: compiled by the tests with -DWRONG=1 (aborts), 2 (hangs), 3 (reads address 0). */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int ModuleEntry(void *library) { return library != 0; }
EXPORT int ModuleExit(void) { return 1; }

EXPORT void *GetPluginFactory(void) {
    fprintf(stderr, "no licence found\n");
    fflush(stderr);
#if WRONG == 1
    abort();
#elif WRONG == 2
    for (;;) sleep(1);
#else
    return (void *)(size_t)*(volatile char *)0;
#endif
    return 0;
}
