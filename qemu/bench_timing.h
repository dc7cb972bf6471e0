/* What the programs for boards time with: their options, the clock, emptied caches, and quartiles of samples. */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H

#include "bench.h"

enum { LINE = 64, MAX_REPEATS = 1001 };

/* Print what every document of the program begins with. */
static void begin_document(void);

/* Say what went wrong, and leave. */
static _Noreturn void fail(const char *why);

static double repeats = 21, least_sample_ns = 2e6, wanted_core = -1, limit_seconds = 600;

static double clock_cost(void) {
    double least = 1e9;
    for (int i = 0; i < 100; i++) {
        double begin = now_ns(), took = now_ns() - begin;
        if (took < least) least = took;
    }
    return least;
}

/* How much to write before a cold call: by the board's own account of its caches within what the target allows, because
 * an emulator or a virtual machine tells of its host's (lrfdse/targets/eviction.py).
 */
static size_t bytes_to_evict(uint64_t factor, uint64_t from, uint64_t to, double cache) {
    double least = (double)(uint32_t)from, most = (double)(uint32_t)to, wanted = (double)(uint32_t)factor * cache;
    if (wanted < least) wanted = least;
    if (wanted > most) wanted = most;
    return (size_t)(uint32_t)wanted;
}

/* Write a buffer larger than every cache, line by line: what a kernel reads is gone from them. */
static void evict(volatile unsigned char *buffer, size_t bytes) {
    for (size_t i = 0; i < bytes; i += LINE) buffer[i]++;
}

static double sample[MAX_REPEATS];

static void say_quartiles(int count) {
    for (int i = 1; i < count; i++) {
        double value = sample[i];
        int place = i;
        for (; place > 0 && sample[place - 1] > value; place--) sample[place] = sample[place - 1];
        sample[place] = value;
    }
    static const double shares[] = {0.5, 0.25, 0.75};
    say("[");
    for (int i = 0; i < 3; i++) {
        double place = shares[i] * (count - 1);
        int below = (int)place;
        double above = below + 1 < count ? sample[below + 1] : sample[below];
        double value = sample[below] + (place - below) * (above - sample[below]);
        if (i) say(",");
        say_tenths(value > 0 ? value : 0);
    }
    say("]");
}

static double option(const char *value, double least, double most) {
    double found = value ? number_of(value, most) : -1;
    for (const char *rest = value; rest && *rest; rest++)
        if (*rest < '0' || *rest > '9') found = -1;
    if (found < least) {
        begin_document();
        say(",\"error\":\"usage: bench [--repeats N] [--min-time MS] [--core N] [--limit SECONDS]\"}\n");
        leave(2);
    }
    return found;
}
static int same(const char *one, const char *other) { return begins(one, other) && length(one) == length(other); }

static void read_options(char **given) {
    for (; *given; given += 2) {
        if (same(*given, "--repeats")) repeats = option(given[1], 1, MAX_REPEATS);
        else if (same(*given, "--min-time")) least_sample_ns = 1e6 * option(given[1], 0, 60000);
        else if (same(*given, "--core")) wanted_core = option(given[1], 0, 8191);
        else if (same(*given, "--limit")) limit_seconds = option(given[1], 1, 86400);
        else option(NULL, 0, 0);
    }
}

/* Say what the board is and how it was timed, and leave. */
static void end_document(long core, double bits, double cache, size_t evict_bytes, double cost) {
    say(",\"board\":{");
    say_board(core);
    say(",\"vector_bits\":");
    if (bits > 0) say_whole(bits);
    else say("null");
    say(",\"largest_cache_bytes\":");
    if (cache > 0) say_whole(cache);
    else say("null");
    say(",\"evicted_bytes\":");
    say_whole((double)evict_bytes);
    say(",\"clock_ns\":");
    say_tenths(cost);
    say("}}\n");
    if (text_is_full()) fail("the document is longer than its room");
    leave(0);
}

#endif
