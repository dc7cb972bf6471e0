/* The program of a design that runs on a board: checks and times every kernel, and prints one JSON document.
 *
 * Linked with a design's kernels, a table that calls them, and one block of data (lrfdse/deploy/bench_data.py): no C
 * library, so one static file runs on any Linux of its instruction set. bench_system.c is the system below. Compiled with
 * LRF_MOST_ARGUMENTS, the arguments of a kernel at most, and LRF_TOLERANCE, the largest relative error of its output.
 */
#include "bench.h"

#include "bench_timing.h"
#include "system.h"

enum { MAX_CALLS = 1 << 20, FILL = 0xFF };
enum { ROLE_INPUT, ROLE_WEIGHT, ROLE_SCALE, ROLE_BIAS, ROLE_OUTPUT, ROLE_WORK };

#define MAGIC 0x3148434e4542464cull
#define TEXT_OF(value) #value
#define TEXT(value) TEXT_OF(value)

struct data {
    uint64_t magic, kernels, head, head_bytes, arena_bytes, text_bytes, vector_bits;
    uint64_t evict_factor, least_evict_bytes, most_evict_bytes;
};
struct argument {
    uint64_t role, bytes, source, place;
};
struct kernel {
    uint64_t text, text_bytes, expected, arguments;
    struct argument argument[LRF_MOST_ARGUMENTS];
};

extern const unsigned char bench_data[];
extern void (*const bench_calls[])(float *const *);

static const struct data *data(void) { return (const struct data *)(const void *)bench_data; }
static const struct kernel *kernel_of(size_t number) {
    return (const struct kernel *)(const void *)(bench_data + sizeof(struct data)) + number;
}
static const char *at(uint64_t offset) { return (const char *)bench_data + (size_t)offset; }

/* Index of the running kernel, for error reports; -1 before the first and after the last. */
static volatile long running = -1;
static char spare_text[4096];

static void begin_document(void) {
    restart_text();
    say("{\"lrfdse_bench\":1,");
    put(at(data()->head), (size_t)data()->head_bytes);
}
static _Noreturn void fail(const char *why) {
    begin_document();
    say(",\"error\":");
    say_quoted(why, length(why));
    if (running >= 0) {
        const struct kernel *now = kernel_of((size_t)running);
        say(",\"kernel\":{");
        put(at(now->text), (size_t)now->text_bytes);
        say("}");
    }
    say("}\n");
    leave(1);
}

static float *(*arguments)[LRF_MOST_ARGUMENTS];
static unsigned char *arena;

static void call_once(size_t kernel) { bench_calls[kernel](arguments[kernel]); }
static void call_all(size_t unused) {
    (void)unused;
    for (size_t k = 0; k < (size_t)data()->kernels; k++) call_once(k);
}

static double time_calls(void (*run)(size_t), size_t kernel, long calls) {
    double begin = now_ns();
    for (long i = 0; i < calls; i++) run(kernel);
    return now_ns() - begin;
}

/* Read again what calling takes but is no part of the kernel: its entry in the table, its pointers, the clock. */
static void prepare_call(size_t kernel) {
    for (size_t a = 0; a < LRF_MOST_ARGUMENTS; a++) __asm__ volatile("" ::"r"(arguments[kernel][a]));
    __asm__ volatile("" ::"r"(bench_calls[kernel]));
    now_ns();
}

static long say_warm(const char *name, void (*run)(size_t), size_t kernel, double cost) {
    long calls = 1;
    run(kernel);
    while (calls < MAX_CALLS && time_calls(run, kernel, calls) < least_sample_ns) calls *= 2;
    for (int i = 0; i < (int)repeats; i++) {
        double took = time_calls(run, kernel, calls) - cost;
        sample[i] = took / (double)calls;
    }
    say(name);
    say_quartiles((int)repeats);
    return calls;
}

static void say_cold(void (*run)(size_t), size_t kernel, double cost, unsigned char *buffer, size_t bytes) {
    for (int i = 0; i < (int)repeats; i++) {
        evict(buffer, bytes);
        prepare_call(kernel);
        sample[i] = time_calls(run, kernel, 1) - cost;
    }
    say(",\"cold_ns\":");
    say_quartiles((int)repeats);
}

/* Lay every kernel's arrays out in memory, a guard of at least a line after each. */
static void place_arrays(void) {
    arena = memory((size_t)data()->arena_bytes);
    memset(arena, FILL, (size_t)data()->arena_bytes);
    arguments = memory(sizeof *arguments * ((size_t)data()->kernels + 1));
    for (size_t k = 0; k < (size_t)data()->kernels; k++) {
        const struct kernel *kernel = kernel_of(k);
        for (size_t a = 0; a < (size_t)kernel->arguments; a++) {
            const struct argument *argument = &kernel->argument[a];
            float *place = (float *)(void *)(arena + (size_t)argument->place);
            arguments[k][a] = place;
            if (argument->role <= ROLE_BIAS) memcpy(place, at(argument->source), (size_t)argument->bytes);
        }
    }
}

/* Return the output's largest deviation relative to the largest expected element, or end the program. */
static double check(size_t k) {
    const struct kernel *kernel = kernel_of(k);
    double scale = 0, worst = 0;
    for (size_t a = 0; a < (size_t)kernel->arguments; a++) {
        const struct argument *argument = &kernel->argument[a];
        const unsigned char *place = arena + (size_t)argument->place;
        size_t bytes = (size_t)argument->bytes, next = (bytes + 2 * LINE - 1) & ~(size_t)(LINE - 1);
        for (size_t i = bytes; i < next; i++)
            if (place[i] != FILL) fail("a kernel wrote beyond an array");
        if (argument->role <= ROLE_BIAS) {
            const unsigned char *source = (const unsigned char *)at(argument->source);
            for (size_t i = 0; i < bytes; i++)
                if (place[i] != source[i]) fail("a kernel changed its input or its weights");
        }
        if (argument->role == ROLE_OUTPUT) {
            const double *expected = (const double *)(const void *)at(kernel->expected);
            const float *found = (const float *)(const void *)place;
            for (size_t i = 0; i < bytes / sizeof *found; i++) {
                double size = expected[i] < 0 ? -expected[i] : expected[i];
                double error = (double)found[i] - expected[i];
                if (error < 0) error = -error;
                if (size > scale) scale = size;
                /* A NaN is the worst of all, and must stay. */
                if (!(error <= worst)) worst = error;
                if (worst != worst) fail("wrong output: not a number");
            }
        }
    }
    double relative = worst / (scale > 0 ? scale : 1);
    if (!(relative <= LRF_TOLERANCE)) fail("wrong output: it deviates from the reference by more than " TEXT(LRF_TOLERANCE));
    return relative;
}

/* Bits of a vector register where the kernels use RVV, else 0. */
static double vector_bits(void) {
#if defined(__riscv)
    if (data()->vector_bits) {
        long bytes;
        __asm__ volatile("csrr %0, 0xc22" : "=r"(bytes));
        if (bytes * 8 < (long)data()->vector_bits)
            fail("vector registers are shorter than the kernels were compiled for");
        return (double)bytes * 8;
    }
#endif
    return 0;
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
    size_t kernels = (size_t)data()->kernels;
    place_arrays();

    double cache = largest_cache(core < 0 ? 0 : core);
    size_t evict_bytes = bytes_to_evict(data()->evict_factor, data()->least_evict_bytes, data()->most_evict_bytes, cache);
    unsigned char *buffer = memory(evict_bytes + LINE);
    evict(buffer, evict_bytes);

    double cost = clock_cost();
    begin_document();
    say(",\"repeats\":");
    say_whole(repeats);
    say(",\"min_time_ms\":");
    say_whole(least_sample_ns / 1e6);
    say(",\"kernels\":[");
    for (size_t k = 0; k < kernels; k++) {
        const struct kernel *kernel = kernel_of(k);
        running = (long)k;
        /* Only kernels can take without end, so whatever the limit ends has a name. */
        if (!k) end_after((long)limit_seconds);
        call_once(k);
        double error = check(k);
        say(k ? ",{" : "{");
        put(at(kernel->text), (size_t)kernel->text_bytes);
        long calls = say_warm(",\"warm_ns\":", call_once, k, cost);
        say_cold(call_once, k, cost, buffer, evict_bytes);
        say(",\"calls\":");
        say_whole((double)calls);
        say(",\"max_error\":");
        say_whole(error * 1e12 + 0.5);
        say("e-12}");
        check(k);
    }
    say("]");
    running = -1;
    if (kernels) {
        long calls = say_warm(",\"all_ns\":", call_all, 0, cost);
        say(",\"all_calls\":");
        say_whole((double)calls);
        for (size_t k = 0; k < kernels; k++) check(k);
    }
    end_document(core, bits, cache, evict_bytes, cost);
}
