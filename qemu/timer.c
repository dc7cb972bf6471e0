/* Times one kernel on the machine at hand, for lrfdse's "host" meter (docs/meter.md).
 *
 * Linked with the kernel into a shared library that lrfdse/meters/_host_runner.py loads. Arguments lie in an image
 * file as for harness.c; LRF_PARAMETERS, LRF_ARGUMENTS, LRF_MOST_ARGUMENTS and
 * lrf_kernel are bound as there.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x4c524631, HEADER = 2 + LRF_MOST_ARGUMENTS, LINE = 64, MAX_CALLS = 1 << 20 };

void lrf_kernel(LRF_PARAMETERS);

static float *argument[HEADER];

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static double time_calls(long calls) {
    double begin = now_ns();
    for (long i = 0; i < calls; i++) lrf_kernel(LRF_ARGUMENTS);
    return now_ns() - begin;
}

static double clock_overhead_ns(void) {
    double least = 1e9;
    for (int i = 0; i < 100; i++) {
        double begin = now_ns(), elapsed = now_ns() - begin;
        if (elapsed < least) least = elapsed;
    }
    return least;
}

/* Write a buffer larger than every cache, line by line: what the kernel reads is gone from them. */
static void evict(volatile unsigned char *buffer, long bytes) {
    for (long i = 0; i < bytes; i += LINE) buffer[i]++;
}

/* Fill `warm_ns` and `cold_ns` with nanoseconds a call: back to back, and single calls after emptying the caches. */
__attribute__((visibility("default"))) int lrf_time(const char *path, long warm, long cold, long sample_ns,
                                                    long evict_bytes, double *warm_ns, double *cold_ns, long *calls) {
    uint64_t header[HEADER];
    int file = open(path, O_RDWR);
    if (file < 0 || read(file, header, sizeof header) != sizeof header || header[0] != MAGIC) return 1;
    char *image = mmap(NULL, header[1], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    unsigned char *buffer = malloc((size_t)evict_bytes);
    if (image == MAP_FAILED || !buffer) return 2;
    memset(buffer, 1, (size_t)evict_bytes);
    for (int i = 0; i < LRF_MOST_ARGUMENTS; i++) argument[i] = (float *)(image + header[2 + i]);

    time_calls(1);
    for (*calls = 1; *calls < MAX_CALLS && time_calls(*calls) < (double)sample_ns;) *calls *= 2;
    double overhead = clock_overhead_ns();
    for (long i = 0; i < warm; i++) warm_ns[i] = (time_calls(*calls) - overhead) / (double)*calls;
    for (long i = 0; i < cold; i++) {
        evict(buffer, evict_bytes);
        double elapsed = time_calls(1) - overhead;
        cold_ns[i] = elapsed > 0 ? elapsed : 0;
    }
    free(buffer);
    munmap(image, header[1]);
    close(file);
    return 0;
}
