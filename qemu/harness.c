/* Runs one kernel twice on the emulator: first with empty caches, then with warm ones (lrfmeter.c marks the regions).
 *
 * Linked with one kernel and nothing else: without a C library a link takes milliseconds, and no address depends on the
 * environment. The arguments lie in the file "image" (lrfdse/meters/image.py): a header of 64-bit numbers (magic, total
 * bytes, then the offset of each argument, LRF_MOST_ARGUMENTS of them), then the arrays. The file is mapped at a fixed address and shared, so
 * what the kernel writes is in the file when the program ends.
 *
 * Compiled once a target and number of arguments with LRF_PARAMETERS, e.g. "float *, float *", and LRF_ARGUMENTS, e.g.
 * "argument[0], argument[1]". The linker binds lrf_kernel to the kernel's symbol.
 */
#include <stddef.h>
#include <stdint.h>

#include "system.h"

enum { MAGIC = 0x4c524631, HEADER = 2 + LRF_MOST_ARGUMENTS, IMAGE_ADDRESS = 0x10000000, STACK_BYTES = 1 << 20 };
enum { READ_WRITE = 2, SHARED_FIXED = 0x11, PROTECTION = 3, CURRENT_FOLDER = -100 };

void lrf_kernel(LRF_PARAMETERS);
void lrf_main(void);

__attribute__((aligned(64), used)) unsigned char lrf_stack[STACK_BYTES];

/* A stack of our own: the kernel's addresses do not move with the environment that the emulator passes on. */
__asm__(ENTRY_ON("lrf_stack + 1048576", "lrf_main"));
_Static_assert(STACK_BYTES == 1048576, "the entry code holds the size of the stack");

__attribute__((noinline, used)) void lrf_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline, used)) void lrf_end(void) { __asm__ volatile("" ::: "memory"); }

/* What runs several operators one after the other calls it before each of them. */
__attribute__((noinline, used)) void lrf_mark(void) { __asm__ volatile("" ::: "memory"); }

static _Noreturn void leave(int status) {
    for (;;) system_call(EXIT_ALL, status, 0, 0, 0, 0, 0);
}

static float *argument[HEADER];
static uint64_t header[HEADER];

void lrf_main(void) {
    long file = system_call(OPENAT, CURRENT_FOLDER, (long)"image", READ_WRITE, 0, 0, 0);
    if (file < 0 || system_call(READ, file, (long)header, sizeof header, 0, 0, 0) != sizeof header) leave(101);
    if (header[0] != MAGIC) leave(102);
    long image = system_call(MMAP, IMAGE_ADDRESS, (long)header[1], PROTECTION, SHARED_FIXED, file, 0);
    if (image != IMAGE_ADDRESS) leave(103);
    for (int i = 0; i < LRF_MOST_ARGUMENTS; i++) argument[i] = (float *)(uintptr_t)(IMAGE_ADDRESS + header[2 + i]);
    for (int pass = 0; pass < 2; pass++) {
        lrf_begin();
        lrf_kernel(LRF_ARGUMENTS);
        lrf_end();
    }
    leave(0);
}
