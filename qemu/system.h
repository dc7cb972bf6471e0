/* The system below programs without a C library: system calls and entry code of every instruction set that has them.
 *
 * Another instruction set is another branch here and nowhere else. EXIT ends the program's only thread, EXIT_ALL all.
 * ENTRY(main) is assembly that calls `main` with the address of what the system passes on: the number of arguments,
 * then pointers to them. ENTRY_ON(end, main) moves the stack to the address `end` first and passes nothing.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#if defined(__riscv)
enum { OPENAT = 56, CLOSE = 57, READ = 63, WRITE = 64, EXIT = 93, EXIT_ALL = 94, TIMER = 103, CLOCK = 113 };
enum { SET_AFFINITY = 122, GET_AFFINITY = 123, ACTION = 134, UNAME = 160, MMAP = 222 };
#define ENTRY_GP ".option push\n.option norelax\nla gp, __global_pointer$\n.option pop\n"
#define ENTRY(main) ".globl _start\n_start:\n" ENTRY_GP "mv a0, sp\nandi sp, sp, -16\ncall " main "\n"
#define ENTRY_ON(end, main) ".globl _start\n_start:\n" ENTRY_GP "la sp, " end "\ncall " main "\n"
static __attribute__((unused)) long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long a7 __asm__("a7") = n, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d, a4 __asm__("a4") = e, a5 __asm__("a5") = f;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}
#elif defined(__aarch64__)
enum { OPENAT = 56, CLOSE = 57, READ = 63, WRITE = 64, EXIT = 93, EXIT_ALL = 94, TIMER = 103, CLOCK = 113 };
enum { SET_AFFINITY = 122, GET_AFFINITY = 123, ACTION = 134, UNAME = 160, MMAP = 222 };
#define ENTRY(main) ".globl _start\n_start:\nmov x0, sp\nbl " main "\n"
#define ENTRY_ON(end, main) \
    ".globl _start\n_start:\nadrp x0, " end "\nadd x0, x0, :lo12:" end "\nmov sp, x0\nbl " main "\n"
static __attribute__((unused)) long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#elif defined(__arm__)
enum { OPENAT = 322, CLOSE = 6, READ = 3, WRITE = 4, EXIT = 1, EXIT_ALL = 248, TIMER = 104, CLOCK = 263 };
enum { SET_AFFINITY = 241, GET_AFFINITY = 242, ACTION = 174, UNAME = 122, MMAP = 192 };
#define ENTRY(main) ".globl _start\n_start:\nmov r0, sp\nbl " main "\n"
#define ENTRY_ON(end, main) ".globl _start\n_start:\nldr sp, =" end "\nbl " main "\n.ltorg\n"
static __attribute__((unused)) long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long r7 __asm__("r7") = n, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
    register long r3 __asm__("r3") = d, r4 __asm__("r4") = e, r5 __asm__("r5") = f;
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return r0;
}
#elif defined(__x86_64__)
enum { OPENAT = 257, CLOSE = 3, READ = 0, WRITE = 1, EXIT = 60, EXIT_ALL = 231, TIMER = 38, CLOCK = 228 };
enum { SET_AFFINITY = 203, GET_AFFINITY = 204, ACTION = 13, UNAME = 63, MMAP = 9 };
#define ENTRY(main) ".globl _start\n_start:\nmov %rsp, %rdi\nand $-16, %rsp\ncall " main "\n"
#define ENTRY_ON(end, main) ".globl _start\n_start:\nleaq " end "(%rip), %rsp\ncall " main "\n"
static __attribute__((unused)) long system_call(long n, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(n) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return n;
}
#else
#error "no entry code for this instruction set"
#endif

#endif
