/* Runs one kernel twice on the emulator: first with empty caches, then with warm ones (lrfmeter.c marks the regions).
 *
 * Linked with one kernel and nothing else: without a C library a link takes milliseconds, and no address depends on the
 * environment. The arguments lie in the file "image" (lrfdse/meters/image.py): a header of 32 64-bit numbers (magic,
 * total bytes, then the offset of each argument), then the arrays. The file is mapped at a fixed address and shared, so
 * what the kernel writes is in the file when the program ends.
 *
 * Compiled once a target and number of arguments with LRF_PARAMETERS, e.g. "float *, float *", and LRF_ARGUMENTS, e.g.
 * "argument[0], argument[1]". The linker binds lrf_kernel to the kernel's symbol.
 */
#include <stddef.h>
#include <stdint.h>

enum { MAGIC = 0x4c524631, HEADER = 32, IMAGE_ADDRESS = 0x10000000, STACK_BYTES = 1 << 20 };
enum { READ_WRITE = 2, SHARED_FIXED = 0x11, PROTECTION = 3, CURRENT_FOLDER = -100 };

void lrf_kernel(LRF_PARAMETERS);
void lrf_main(void);

__attribute__((aligned(64), used)) unsigned char lrf_stack[STACK_BYTES];

/* A stack of our own: the kernel's addresses do not move with the environment that the emulator passes on. */
#if defined(__riscv)
enum { OPENAT = 56, READ = 63, EXIT = 94, MMAP = 222 };
__asm__(".globl _start\n_start:\n"
        ".option push\n.option norelax\nla gp, __global_pointer$\n.option pop\n"
        "la sp, lrf_stack + 1048576\ncall lrf_main\n");
static long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long a7 __asm__("a7") = n, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d, a4 __asm__("a4") = e, a5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
#elif defined(__aarch64__)
enum { OPENAT = 56, READ = 63, EXIT = 94, MMAP = 222 };
__asm__(".globl _start\n_start:\n"
        "adrp x0, lrf_stack + 1048576\nadd x0, x0, :lo12:lrf_stack + 1048576\nmov sp, x0\nbl lrf_main\n");
static long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#elif defined(__arm__)
enum { OPENAT = 322, READ = 3, EXIT = 248, MMAP = 192 };
__asm__(".globl _start\n_start:\nldr sp, =lrf_stack + 1048576\nbl lrf_main\n.ltorg\n");
static long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long r7 __asm__("r7") = n, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
    register long r3 __asm__("r3") = d, r4 __asm__("r4") = e, r5 __asm__("r5") = f;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
#elif defined(__x86_64__)
enum { OPENAT = 257, READ = 0, EXIT = 60, MMAP = 9 };
__asm__(".globl _start\n_start:\nleaq lrf_stack + 1048576(%rip), %rsp\ncall lrf_main\n");
static long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return n;
}
#else
#error "no entry code for this instruction set"
#endif

_Static_assert(STACK_BYTES == 1048576, "the entry code holds the size of the stack");

__attribute__((noinline, used)) void lrf_begin(void) { __asm__ volatile("" ::: "memory"); }
__attribute__((noinline, used)) void lrf_end(void) { __asm__ volatile("" ::: "memory"); }

static _Noreturn void leave(int status) {
    for (;;) system_call(EXIT, status, 0, 0, 0, 0, 0);
}

static float *argument[HEADER];
static uint64_t header[HEADER];

void lrf_main(void) {
    long file = system_call(OPENAT, CURRENT_FOLDER, (long)"image", READ_WRITE, 0, 0, 0);
    if (file < 0 || system_call(READ, file, (long)header, sizeof header, 0, 0, 0) != sizeof header) leave(101);
    if (header[0] != MAGIC) leave(102);
    long image = system_call(MMAP, IMAGE_ADDRESS, (long)header[1], PROTECTION, SHARED_FIXED, file, 0);
    if (image != IMAGE_ADDRESS) leave(103);
    for (int i = 0; i < HEADER - 2; i++) argument[i] = (float *)(uintptr_t)(IMAGE_ADDRESS + header[2 + i]);
    for (int pass = 0; pass < 2; pass++) {
        lrf_begin();
        lrf_kernel(LRF_ARGUMENTS);
        lrf_end();
    }
    leave(0);
}
