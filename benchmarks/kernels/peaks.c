/* Peaks of the machine at hand: float32 FMAs, and reads of buffers of a size. Loaded by peaks.py. */
#include <time.h>

#ifndef WIDTH
#define WIDTH 32
#endif
typedef float vector __attribute__((vector_size(WIDTH), aligned(4)));
enum { LANES = WIDTH / 4, SUMS = 12, STREAMS = 8 };

static double now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

/* FMAs a nanosecond. */
double bench_fma_rate(long iterations, float *sink) {
    vector sum[SUMS], a, b;
    for (int i = 0; i < LANES; i++) a[i] = 1.0f + 1e-7f * sink[0], b[i] = 1e-9f * sink[0];
    for (int i = 0; i < SUMS; i++) sum[i] = b;
    double begin = now_ns();
    for (long n = 0; n < iterations; n++) {
        for (int i = 0; i < SUMS; i++) {
            sum[i] = sum[i] * a + b;
            __asm__ volatile("" : "+v"(sum[i])); /* keeps the accumulators apart and in registers */
        }
    }
    double elapsed = now_ns() - begin;
    for (int i = 0; i < SUMS; i++) sink[0] += sum[i][0];
    return (double)iterations * SUMS * LANES / elapsed;
}

/* Bytes a nanosecond, over the whole buffer `repeats` times. */
double bench_read_rate(const float *data, long elements, long repeats, float *sink) {
    vector sum[STREAMS] = {0};
    double begin = now_ns();
    for (long n = 0; n < repeats; n++) {
        for (long i = 0; i + STREAMS * LANES <= elements; i += STREAMS * LANES)
            for (int s = 0; s < STREAMS; s++) sum[s] += *(const vector *)(data + i + s * LANES);
        __asm__ volatile("" ::: "memory");
    }
    double elapsed = now_ns() - begin;
    for (int s = 0; s < STREAMS; s++) sink[0] += sum[s][0];
    return 4.0 * (double)elements * (double)repeats / elapsed;
}
