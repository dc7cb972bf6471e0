/* Times a whole program part by part on the machine at hand, for lrfdse's "host" meter (docs/meter.md).
 *
 * Linked with the program into a shared library that lrfdse/meters/_whole_runner.py loads. The memory of a run lies in
 * an image file as for harness.c, with one argument. The program calls lrf_mark() between its parts.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAGIC = 0x4c524631, HEADER = 2 + LRF_MOST_ARGUMENTS, LINE = 64, WARM_UP = 3 };

void lrf_kernel(unsigned char *block);
void lrf_mark(void);

static double *times; /* when each part of the current run began, and when the run ended */
static long marks, most;

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

void lrf_mark(void) {
    if (marks < most) times[marks] = now_ns();
    marks++;
}

static double clock_overhead_ns(void) {
    double least = 1e9;
    for (int i = 0; i < 100; i++) {
        double begin = now_ns(), elapsed = now_ns() - begin;
        if (elapsed < least) least = elapsed;
    }
    return least;
}

/* Write a buffer larger than every cache, line by line: what the program reads is gone from them. */
static void evict(volatile unsigned char *buffer, long bytes) {
    for (long i = 0; i < bytes; i += LINE) buffer[i]++;
}

/* Fill a row of `found` with the nanoseconds of each part. */
static int run(unsigned char *block, long parts, double overhead, double *found) {
    marks = 0;
    lrf_mark();
    lrf_kernel(block);
    lrf_mark();
    for (long i = 0; i < parts; i++) {
        double elapsed = times[i + 1] - times[i] - overhead;
        found[i] = elapsed > 0 ? elapsed : 0;
    }
    return marks != parts + 1;
}

/* Fill `warm_ns` and `cold_ns`, a row of `parts` numbers a run: run after run until `enough_ns` are over or `warm` runs
 * are made, then single runs after emptying the caches. `counts` becomes the numbers of rows. */
__attribute__((visibility("default"))) int lrf_time_whole(const char *path, long parts, long warm, long cold,
                                                          double enough_ns, long evict_bytes, double *warm_ns,
                                                          double *cold_ns, long *counts) {
    uint64_t header[HEADER];
    int file = open(path, O_RDWR), wrong = 0;
    if (file < 0 || read(file, header, sizeof header) != sizeof header || header[0] != MAGIC) return 1;
    unsigned char *image = mmap(NULL, header[1], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    unsigned char *buffer = malloc((size_t)evict_bytes);
    most = parts + 1;
    times = malloc((size_t)most * sizeof *times);
    if (image == MAP_FAILED || !buffer || !times) return 2;
    memset(buffer, 1, (size_t)evict_bytes);
    unsigned char *block = image + header[2];
    double overhead = clock_overhead_ns();
    for (int i = 0; i < WARM_UP; i++) wrong |= run(block, parts, overhead, warm_ns);
    double begin = now_ns();
    for (counts[0] = 0; counts[0] < warm; counts[0]++) {
        if (counts[0] > 2 && now_ns() - begin > enough_ns) break;
        wrong |= run(block, parts, overhead, warm_ns + counts[0] * parts);
    }
    begin = now_ns();
    for (counts[1] = 0; counts[1] < cold; counts[1]++) {
        if (counts[1] > 2 && now_ns() - begin > enough_ns) break;
        evict(buffer, evict_bytes);
        wrong |= run(block, parts, overhead, cold_ns + counts[1] * parts);
    }
    free(buffer);
    free(times);
    munmap(image, header[1]);
    close(file);
    return wrong ? 3 : 0;
}
