/* The program of a whole model that runs on a board: runs its library, checks the outputs, times every operator.
 *
 * Linked with the library and one block of data (lrfdse/library/board_program.py): no C library, so one static file runs
 * on any Linux of its instruction set. The library calls lrf_mark() between its parts. Compiled as bench.c is.
 */
#include "bench.h"

#include "bench_timing.h"
#include "system.h"

enum { FILL = 0xFF, WARM_UP = 2 };
enum { FLOAT32, FLOAT64, FLOAT16, WHOLE_NUMBER };

#define MAGIC 0x3157434e4542464cull

struct data {
    uint64_t magic, head, head_bytes, text_bytes, vector_bits;
    uint64_t evict_factor, least_evict_bytes, most_evict_bytes;
    uint64_t parts, outputs, given, given_bytes, block_bytes, tolerance_e9;
};
struct output {
    uint64_t kind, elements, bytes, place, expected;
};

extern const unsigned char bench_data[];
void lrf_whole(unsigned char *block);
void lrf_mark(void);

static const struct data *data(void) { return (const struct data *)(const void *)bench_data; }
static const struct output *output_of(size_t number) {
    return (const struct output *)(const void *)(bench_data + sizeof(struct data)) + number;
}
static const unsigned char *at(uint64_t offset) { return bench_data + (size_t)offset; }

static char spare_text[4096];

static void begin_document(void) {
    restart_text();
    say("{\"lrfdse_bench\":1,");
    put((const char *)at(data()->head), (size_t)data()->head_bytes);
}
static _Noreturn void fail(const char *why) {
    begin_document();
    say(",\"error\":");
    say_quoted(why, length(why));
    say("}\n");
    leave(1);
}

static double *times; /* when each part of the current run began, and when the run ended */
static size_t marks, parts;

void lrf_mark(void) {
    if (marks <= parts) times[marks] = now_ns();
    marks++;
}

/* Fill a column of samples, a part a row and then the whole, with the nanoseconds of one run. */
static void run(unsigned char *block, double cost, double *found, size_t column, size_t columns) {
    marks = 0;
    lrf_mark();
    lrf_whole(block);
    lrf_mark();
    if (marks != parts + 1) fail("the library has other operators than the program");
    if (*(const int *)(const void *)block) fail("the library returned an error");
    double whole = 0;
    for (size_t i = 0; i < parts; i++) {
        double took = times[i + 1] - times[i] - cost;
        if (took < 0) took = 0;
        found[i * columns + column] = took;
        whole += took;
    }
    found[parts * columns + column] = whole;
}

static double half(unsigned bits) {
    unsigned exponent = (bits >> 10) & 31;
    double value = (double)(bits & 1023) / 1024, scale = 1;
    if (exponent) value += 1;
    else exponent = 1;
    if (exponent == 31) fail("wrong output: not finite");
    for (; exponent < 15; exponent++) scale /= 2;
    for (; exponent > 15; exponent--) scale *= 2;
    return bits >> 15 ? -value * scale : value * scale;
}
static double number(uint64_t kind, const unsigned char *from, size_t place) {
    if (kind == FLOAT32) return (double)((const float *)(const void *)from)[place];
    if (kind == FLOAT64) return ((const double *)(const void *)from)[place];
    return half(((const uint16_t *)(const void *)from)[place]);
}

/* Return the largest deviation of an output relative to its largest expected element, or end the program. */
static double check(const unsigned char *block) {
    double worst = 0, most = (double)(uint32_t)data()->tolerance_e9 * 1e-9;
    for (size_t k = 0; k < (size_t)data()->outputs; k++) {
        const struct output *one = output_of(k);
        const unsigned char *found = block + (size_t)one->place, *expected = at(one->expected);
        double scale = 0, off = 0;
        size_t same = 0;
        while (same < (size_t)one->bytes && found[same] == expected[same]) same++;
        if (same == (size_t)one->bytes) continue;
        if (one->kind == WHOLE_NUMBER) fail("wrong output: other whole numbers than onnxruntime's");
        for (size_t i = 0; i < (size_t)one->elements; i++) {
            double due = number(one->kind, expected, i), error = number(one->kind, found, i) - due;
            if (error < 0) error = -error;
            if (due < 0) due = -due;
            if (due > scale) scale = due;
            /* A NaN is the worst of all, and must stay. */
            if (!(error <= off)) off = error;
            if (off != off) fail("wrong output: not a number");
        }
        off /= scale > 0 ? scale : 1;
        if (!(off <= most)) fail("wrong output: it deviates from onnxruntime's by more than the library may");
        if (off > worst) worst = off;
    }
    return worst;
}

/* Bits of a vector register where the library uses RVV, else 0. */
static double vector_bits(void) {
#if defined(__riscv)
    if (data()->vector_bits) {
        long bytes;
        __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes));
        if (bytes * 8 < (long)data()->vector_bits) fail("vector registers are shorter than the library was compiled for");
        return (double)bytes * 8;
    }
#endif
    return 0;
}

static void say_samples(const char *name, const double *found, int count) {
    for (int i = 0; i < count; i++) sample[i] = found[i];
    say(name);
    say_quartiles(count);
}

__asm__(ENTRY("bench_main"));

void bench_main(long *stack);
void bench_main(long *stack) {
    begin_text(spare_text, sizeof spare_text);
    on_failure(fail);
    catch_signals();
    if (data()->magic != MAGIC) fail("the program is damaged");
    begin_text(memory((size_t)data()->text_bytes), (size_t)data()->text_bytes);
    read_options((char **)(stack + 1) + (*stack > 0));
    long core = pin(wanted_core);
    double bits = vector_bits();
    parts = (size_t)data()->parts;
    int count = (int)repeats;
    unsigned char *block = memory((size_t)data()->block_bytes + LINE);
    block += (LINE - (uintptr_t)block % LINE) % LINE;
    memset(block, FILL, (size_t)data()->block_bytes);
    memcpy(block, at(data()->given), (size_t)data()->given_bytes);
    times = memory(sizeof *times * (parts + 1));
    double *warm = memory(sizeof *warm * (parts + 1) * (size_t)count);
    double *cold = memory(sizeof *cold * (parts + 1) * (size_t)count);

    double cache = largest_cache(core < 0 ? 0 : core);
    size_t evict_bytes =
        bytes_to_evict(data()->evict_factor, data()->least_evict_bytes, data()->most_evict_bytes, cache);
    unsigned char *buffer = memory(evict_bytes + LINE);
    evict(buffer, evict_bytes);

    double cost = clock_cost();
    end_after((long)limit_seconds);
    run(block, cost, warm, 0, (size_t)count);
    double error = check(block);
    for (int i = 0; i < WARM_UP; i++) run(block, cost, warm, 0, (size_t)count);
    for (int i = 0; i < count; i++) run(block, cost, warm, (size_t)i, (size_t)count);
    for (int i = 0; i < count; i++) {
        evict(buffer, evict_bytes);
        now_ns();
        run(block, cost, cold, (size_t)i, (size_t)count);
    }
    check(block);
    begin_document();
    say(",\"repeats\":");
    say_whole(repeats);
    say(",\"parts\":[");
    for (size_t k = 0; k <= parts; k++) {
        say(k ? ",{" : "{");
        say_samples("\"warm_ns\":", warm + k * (size_t)count, count);
        say_samples(",\"cold_ns\":", cold + k * (size_t)count, count);
        say("}");
    }
    say("],\"max_error\":");
    say_whole(error * 1e12 + 0.5);
    say("e-12");
    end_document(core, bits, cache, evict_bytes, cost);
}
