/* Calls one kernel natively for native.py, and measures the clock that the core runs at and its memory.
 *
 * Linked with the kernel into a shared library; LRF_PARAMETERS, LRF_ARGUMENTS and lrf_kernel are bound as for
 * qemu/timer.c. The arguments lie in anonymous memory on huge pages where the system grants them: translation of
 * addresses is no part of what is compared.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#if !defined(__x86_64__)
#error "cycles are counted by chains of x86-64 instructions"
#endif

enum { MAGIC = 0x4c524631, HEADER = 32, HUGE_PAGE = 2 << 20, LINE = 64, READ_AT_LEAST = 4 << 20, STEPS = 1 << 14 };
#define EXPORT __attribute__((visibility("default")))

void lrf_kernel(LRF_PARAMETERS);

static float *argument[HEADER];
static char *image;
static uint64_t bytes;

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static char *huge(uint64_t size) {
    void *memory;
    size = (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (posix_memalign(&memory, HUGE_PAGE, size)) return NULL;
    madvise(memory, size, MADV_HUGEPAGE);
    return memory;
}

EXPORT int bench_open(const char *path) {
    uint64_t header[HEADER];
    int file = open(path, O_RDONLY);
    if (file < 0 || read(file, header, sizeof header) != sizeof header || header[0] != MAGIC) return 1;
    bytes = header[1];
    if (!(image = huge(bytes))) return 2;
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = pread(file, image + done, bytes - done, (off_t)done);
        if (got <= 0) return 3;
        done += (uint64_t)got;
    }
    close(file);
    for (int i = 0; i < HEADER - 2; i++) argument[i] = (float *)(image + header[2 + i]);
    return 0;
}

static double time_calls(long calls) {
    double begin = now_ns();
    for (long i = 0; i < calls; i++) lrf_kernel(LRF_ARGUMENTS);
    return now_ns() - begin;
}

static char stack[1 << 20] __attribute__((aligned(4096)));

/* Nanoseconds of `calls` calls, back to back, on a stack that begins `shift` bytes (a multiple of 16) below a page. */
EXPORT double bench_calls(long calls, long shift) {
    static double elapsed; /* its address does not go through the stack pointer */
    __asm__ volatile("movq %%rsp, %%rbx\n"
                     "movq %[top], %%rsp\n"
                     "callq *%[function]\n"
                     "movq %%rbx, %%rsp\n"
                     "movsd %%xmm0, %[elapsed]\n"
                     : [elapsed] "=m"(elapsed), "+D"(calls)
                     : [top] "r"(stack + sizeof stack - shift), [function] "r"(time_calls)
                     : "rax", "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3",
                       "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15", "cc", "memory");
    return elapsed;
}

/* Nanoseconds of one call after all of its memory left the caches. */
EXPORT double bench_cold(long shift) {
    for (uint64_t i = 0; i < bytes; i += LINE) _mm_clflush(image + i);
    _mm_mfence();
    return bench_calls(1, shift);
}

/* Nanoseconds of `additions` additions of which each waits for the last; a multiple of 16. */
EXPORT double bench_additions(long additions) {
    uint64_t sum = 0, one = 1;
    double begin = now_ns();
    for (long i = 0; i < additions; i += 16) {
        __asm__ volatile("add %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\n"
                         "add %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\nadd %1, %0\n"
                         "add %1, %0\nadd %1, %0\n"
                         : "+r"(sum)
                         : "r"(one));
    }
    return now_ns() - begin;
}

static char *buffer;
static uint64_t buffer_bytes;
static volatile float sink;

/* Fill a buffer with a random cycle of offsets through all of its lines. */
EXPORT int bench_buffer(long size) {
    free(buffer);
    buffer_bytes = (uint64_t)size;
    uint64_t lines = buffer_bytes / LINE, random = 1;
    uint32_t *order = malloc(lines * sizeof *order);
    buffer = huge(buffer_bytes);
    if (!buffer || !order) return 1;
    for (uint64_t i = 0; i < lines; i++) order[i] = (uint32_t)i;
    for (uint64_t i = lines - 1; i > 0; i--) { /* Sattolo's shuffle: one cycle */
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t j = (random >> 33) % i;
        uint32_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (uint64_t i = 0; i < lines; i++) *(uint64_t *)(buffer + i * LINE) = (uint64_t)order[i] * LINE;
    free(order);
    return 0;
}

/* Nanoseconds to read the buffer once, the least of several passes. */
EXPORT double bench_read(void) {
    double least = 1e18;
    for (uint64_t done = 0; done <= READ_AT_LEAST; done += buffer_bytes) {
        __m256 sum[8] = {_mm256_setzero_ps()};
        double begin = now_ns();
        uint64_t passes = buffer_bytes < READ_AT_LEAST / 64 ? 16 : 1;
        for (uint64_t pass = 0; pass < passes; pass++) {
            for (char *at = buffer; at < buffer + buffer_bytes; at += 256)
                for (int i = 0; i < 8; i++) sum[i] = _mm256_add_ps(sum[i], _mm256_load_ps((float *)(at + 32 * i)));
            __asm__ volatile("" ::: "memory");
        }
        double elapsed = (now_ns() - begin) / (double)passes;
        for (int i = 0; i < 8; i++) sink += _mm256_cvtss_f32(sum[i]);
        if (elapsed < least) least = elapsed;
    }
    return least;
}

/* Nanoseconds from a load to the next one, which takes its address from it. */
EXPORT double bench_chase(void) {
    static uint64_t at;
    if (at >= buffer_bytes) at = 0;
    at &= ~(uint64_t)(LINE - 1);
    double begin = now_ns();
    for (long i = 0; i < STEPS; i++) at = *(volatile uint64_t *)(buffer + at);
    return (now_ns() - begin) / STEPS;
}
