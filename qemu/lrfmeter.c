/* A QEMU user-mode plugin that records what a kernel executes, for lrfdse's "model" meter (docs/meter.md).
 *
 * Between lrf_begin() and lrf_end() it records
 *   - straight-line runs: maximal address ranges executed in sequence between two taken branches, which do not depend
 *     on how QEMU cuts translation blocks (at vset instructions, page ends, 512 instructions);
 *   - the sequence of runs in the first region, as nested loops;
 *   - the instructions of every block as hexadecimal numbers, and RVV's vtype at its entry;
 *   - the traffic of two levels of write-back caches, in every region.
 * The pair of markers may be passed several times; each pass is a region. The caches are emptied where region 1 begins,
 * so region 1 is the cold run and region 2 the warm one. lrf_mark() cuts a region in parts, such as the operators of a
 * whole model: each has its own traffic and its own sequence of runs, and caches are passed on from one to the next.
 *
 * Options (plugin.so,key=value,...): out=FILE  line=BYTES  window=INSTRUCTIONS  ahead=LINES  and for l1 and llc
 * l1=BYTES:WAYS:REPLACEMENT:ALLOCATES, where REPLACEMENT is 0 (lru), 1 (random) or 2 (bimodal), and ALLOCATES is 0 where
 * a store displaces no line (of the first level only). lrfdse/targets/target.py says what they mean.
 * The result is one JSON document. Guests must be single-threaded. QEMU's plugin interface is declared here rather than
 * included, because distributions do not package its header; LRF_API selects the interface version.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#ifndef LRF_API
#define LRF_API 1
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t PluginId;
typedef uint32_t MemInfo;
typedef struct qemu_plugin_tb TranslationBlock;
typedef struct qemu_plugin_insn Insn;
typedef struct { /* the leading fields of qemu_info_t, the same in every version */
    const char *target_name;
    struct {
        int min, cur;
    } version;
    bool system_emulation;
} Info;
enum { NO_REGISTERS = 0, READ_AND_WRITE = 3 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(PluginId, void (*)(PluginId, TranslationBlock *));
extern void qemu_plugin_register_atexit_cb(PluginId, void (*)(PluginId, void *), void *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(Insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(TranslationBlock *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_mem_cb(Insn *, void (*)(unsigned, MemInfo, uint64_t, void *), int, int, void *);
extern size_t qemu_plugin_tb_n_insns(const TranslationBlock *);
extern Insn *qemu_plugin_tb_get_insn(const TranslationBlock *, size_t);
extern size_t qemu_plugin_insn_size(const Insn *);
extern uint64_t qemu_plugin_insn_vaddr(const Insn *);
extern const char *qemu_plugin_insn_symbol(const Insn *);
extern bool qemu_plugin_mem_is_store(MemInfo);
extern unsigned qemu_plugin_mem_size_shift(MemInfo);

EXPORT int qemu_plugin_version = LRF_API;

enum { MAX_BYTES = 16 }; /* of one instruction */

static void copy_instruction(const Insn *insn, uint8_t *bytes, size_t size) {
    if (size > MAX_BYTES) abort();
#if LRF_API <= 2
    extern const void *qemu_plugin_insn_data(const Insn *);
    memcpy(bytes, qemu_plugin_insn_data(insn), size);
#else
    extern size_t qemu_plugin_insn_data(const Insn *, void *, size_t);
    qemu_plugin_insn_data(insn, bytes, size);
#endif
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) abort();
    return memory;
}

/* ---- Caches */

enum { STREAMS = 16, MERGED = 4, OFTEN = 16, MAX_REGIONS = 8 };
enum { LRU, RANDOM, BIMODAL };
#define NO_LINE UINT64_MAX

typedef struct {
    uint64_t *lines; /* each set in order of use, latest first; empty ways are last */
    uint8_t *dirty;
    unsigned sets, ways, replacement, allocates;
    uint32_t chance; /* state of the sequence of numbers that `random` takes, and the count that `bimodal` does */
    uint64_t streams[STREAMS]; /* the latest misses, for the prefetch rule */
    unsigned oldest_stream;
    uint64_t waited_at; /* what `executed` was at the latest miss that the core had to wait for */
} Cache;

typedef struct {
    uint64_t accesses, l1_misses, l1_prefetched, llc_misses, llc_prefetched, llc_writebacks;
    uint64_t l1_store_misses, llc_store_misses; /* those of the misses that stores caused */
} Traffic;

static Cache l1, llc;
static Traffic traffic, traffic_at_begin, of_region[MAX_REGIONS];
static unsigned line_shift = 6;
static uint64_t last_line = NO_LINE;
static bool last_was_store;
static uint64_t executed; /* instructions, counted where their block begins */
static uint64_t window;   /* instructions that an out-of-order core has in flight; 0 for an in-order one */
static uint64_t ahead = 8; /* lines ahead of a miss that a prefetcher brings in */
static uint64_t merged[MERGED]; /* lines of the latest stores that went past the first level: they wait to be full */
static unsigned oldest_merged;

static void cache_empty(Cache *cache) {
    memset(cache->lines, 0xff, sizeof *cache->lines * cache->sets * cache->ways);
    memset(cache->dirty, 0, (size_t)cache->sets * cache->ways);
    memset(cache->streams, 0xee, sizeof cache->streams);
    cache->chance = 1;
    cache->waited_at = executed - window;
}

static void cache_create(Cache *cache, unsigned bytes) {
    cache->sets = (bytes / cache->ways) >> line_shift;
    if (cache->sets == 0) cache->sets = 1;
    cache->lines = allocate((size_t)cache->sets * cache->ways, sizeof *cache->lines);
    cache->dirty = allocate((size_t)cache->sets * cache->ways, 1);
    cache_empty(cache);
}

/* Whether a line is there, or could be brought in without displacing another. */
static bool cache_has_place(const Cache *cache, uint64_t line) {
    const uint64_t *lines = cache->lines + line % cache->sets * cache->ways;
    for (unsigned way = 0; way < cache->ways; way++)
        if (lines[way] == line || lines[way] == NO_LINE) return true;
    return false;
}

/* Look a line up and bring it in; return whether it was there, else the dirty line it displaces. */
static bool cache_access(Cache *cache, uint64_t line, bool store, uint64_t *displaced) {
    uint64_t *lines = cache->lines + line % cache->sets * cache->ways;
    uint8_t *dirty = cache->dirty + line % cache->sets * cache->ways;
    unsigned way = 0;
    while (way < cache->ways && lines[way] != line) way++;
    bool hit = way < cache->ways;
    uint8_t now_dirty = hit ? (dirty[way] | store) : store;
    unsigned to = 0; /* its place in the order of use */
    if (!hit) {
        way = cache->ways - 1;
        bool full = lines[way] != NO_LINE;
        if (full && cache->replacement == RANDOM) {
            cache->chance = cache->chance * 1664525 + 1013904223; /* Numerical Recipes' generator: its high bits do */
            way = (cache->chance >> 16) % cache->ways;
        } else if (full && cache->replacement == BIMODAL) {
            to = ++cache->chance % OFTEN ? way : 0;
        }
        *displaced = dirty[way] ? lines[way] : NO_LINE;
    }
    memmove(lines + to + 1, lines + to, sizeof *lines * (way - to));
    memmove(dirty + to + 1, dirty + to, way - to);
    lines[to] = line;
    dirty[to] = now_dirty;
    return hit;
}

/* A miss at most `ahead` lines ahead of a recent miss counts as prefetched: it costs bandwidth, not latency. */
static bool is_prefetched(Cache *cache, uint64_t line) {
    for (unsigned i = 0; i < STREAMS; i++) {
        if (line - cache->streams[i] - 1 < ahead) {
            cache->streams[i] = line;
            return true;
        }
    }
    cache->streams[cache->oldest_stream++ % STREAMS] = line;
    return false;
}

/* An out-of-order core waits once for all misses that it has in flight together. */
static bool is_overlapped(Cache *cache) {
    if (executed - cache->waited_at < window) return true;
    cache->waited_at = executed;
    return false;
}

/* Stores to one line that follow each other closely reach the level behind as one. */
static bool is_merged(uint64_t line) {
    for (unsigned i = 0; i < MERGED; i++)
        if (merged[i] == line) return true;
    merged[oldest_merged++ % MERGED] = line;
    return false;
}

static void access_line(uint64_t line, bool store) {
    uint64_t from_l1 = NO_LINE, from_llc = NO_LINE;
    traffic.accesses++;
    bool past = store && !l1.allocates && !cache_has_place(&l1, line);
    if (past ? is_merged(line) : cache_access(&l1, line, store, &from_l1)) return;
    traffic.l1_misses++;
    traffic.l1_store_misses += store;
    /* A store waits in a buffer, and while the last-level cache answers, an out-of-order core finds other work. */
    bool foreseen = is_prefetched(&l1, line);
    traffic.l1_prefetched += foreseen || window || store;
    if (from_l1 != NO_LINE && !cache_access(&llc, from_l1, true, &from_llc))
        traffic.llc_writebacks += from_llc != NO_LINE;
    if (cache_access(&llc, line, past, &from_llc)) return;
    traffic.llc_misses++;
    traffic.llc_store_misses += store;
    /* What is read one line after the other is fetched ahead, though some of it is in the last level. The rule for
     * out-of-order cores, which sees misses only, is the one that was compared with hardware. */
    traffic.llc_prefetched += is_prefetched(&llc, line) || (window ? is_overlapped(&llc) : store || foreseen);
    traffic.llc_writebacks += from_llc != NO_LINE;
}

/* QEMU reports an RVV access element by element: neighbours in one line are one access of the machine. */
static void on_memory(unsigned cpu, MemInfo info, uint64_t address, void *unused) {
    (void)cpu, (void)unused;
    bool store = qemu_plugin_mem_is_store(info);
    uint64_t last = (address + (1u << qemu_plugin_mem_size_shift(info)) - 1) >> line_shift;
    for (uint64_t line = address >> line_shift; line <= last; line++) {
        if (line == last_line && store <= last_was_store) continue;
        access_line(line, store);
        last_line = line;
        last_was_store = store;
    }
}

/* ---- Blocks and runs */

enum { BUCKETS = 4096, VTYPE_UNKNOWN = -1 };

typedef struct Run Run;
typedef struct Block Block;
struct Run {
    Block *first, *last;
    int id; /* given when the run ends in the first region; else 0 */
    Run *next;
};
struct Block {
    uint64_t start, end;
    size_t count;
    int vtype;
    uint8_t (*bytes)[MAX_BYTES]; /* of each instruction */
    uint8_t *sizes;
    Run *runs; /* most recently executed first: loops find theirs at once */
    Block *next;
};

static Block *blocks[BUCKETS];
static Block *run_first, *run_last;
static uint64_t expected_start;
static int run_ids, region, vtype = VTYPE_UNKNOWN;
static bool inside, is_riscv;
static const char *out_path = "trace.json";

/* ---- The sequence of runs as nested loops */

enum { MAX_BODY = 256 }; /* items of a loop body; what repeats after more of them stays written out */

/* A run, or a loop over items. */
typedef struct Item {
    int run; /* 0 for a loop */
    uint64_t count, hash, body_hash;
    size_t length;
    struct Item *body;
} Item;

static Item *nest;
static size_t nest_length, nest_capacity, nest_base; /* what lies before the base belongs to earlier parts */

static uint64_t mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t hash_of(const Item *items, size_t length) {
    uint64_t hash = length;
    for (size_t i = 0; i < length; i++) hash = mix(hash, items[i].hash);
    return hash;
}

static void free_bodies(Item *items, size_t length) {
    for (size_t i = 0; i < length; i++) {
        free_bodies(items[i].body, items[i].length);
        free(items[i].body);
    }
}

static void count_pass(Item *loop) {
    loop->count++;
    loop->hash = mix(loop->body_hash, ~loop->count);
}

/* Take the last `length` items for one more pass of the loop before them, or for the second pass of a new loop. */
static bool fold(size_t length) {
    Item *last = nest + nest_length - length, *before = last - 1;
    uint64_t end = last[length - 1].hash;
    if (before->length == length && before->body[length - 1].hash == end && before->body_hash == hash_of(last, length)) {
        free_bodies(last, length);
        nest_length -= length;
        count_pass(before);
        return true;
    }
    if (nest_length - nest_base < 2 * length || before->hash != end) return false;
    Item *earlier = last - length;
    uint64_t hash = hash_of(last, length);
    if (hash != hash_of(earlier, length)) return false;
    free_bodies(last, length);
    Item made = {.count = 1, .body_hash = hash, .length = length, .body = allocate(length, sizeof made)};
    memcpy(made.body, earlier, length * sizeof made);
    count_pass(&made);
    *earlier = made;
    nest_length -= 2 * length - 1;
    return true;
}

static void append_run(int run) {
    if (nest_length == nest_capacity) {
        nest_capacity = nest_capacity ? 2 * nest_capacity : 1024;
        nest = realloc(nest, nest_capacity * sizeof *nest);
        if (!nest) abort();
    }
    nest[nest_length++] = (Item){.run = run, .hash = mix(1, (uint64_t)run)};
    for (size_t length = 1; length <= MAX_BODY && length < nest_length - nest_base;)
        length = fold(length) ? 1 : length + 1;
}

static void write_items(FILE *out, const Item *items, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (i) fputc(',', out);
        if (items[i].run) {
            fprintf(out, "%d", items[i].run);
            continue;
        }
        fprintf(out, "[%" PRIu64 ",", items[i].count);
        write_items(out, items[i].body, items[i].length);
        fputc(']', out);
    }
}

/* ---- Execution */

static Run *find_run(Block *first, Block *last) {
    for (Run **link = &first->runs, *run; (run = *link); link = &run->next) {
        if (run->last != last) continue;
        *link = run->next;
        run->next = first->runs;
        return first->runs = run;
    }
    Run *run = allocate(1, sizeof *run);
    *run = (Run){.first = first, .last = last, .next = first->runs};
    return first->runs = run;
}

static void finish_run(void) {
    if (!inside || region != 1) return;
    Run *run = find_run(run_first, run_last);
    if (!run->id) run->id = ++run_ids;
    append_run(run->id);
}

static void on_block(unsigned cpu, void *data) {
    (void)cpu;
    Block *block = data;
    executed += block->count;
    if (block->start != expected_start) {
        if (run_first) finish_run();
        run_first = block;
    }
    run_last = block;
    expected_start = block->end;
}

/* ---- Parts of a region */

static Traffic *parts, traffic_at_mark;
static size_t *part_starts; /* of the parts of region 1, in the nest */
static size_t parts_count, starts_count;

/* Return an array with room for one more element; it has room for powers of two. */
static void *grown(void *array, size_t count, size_t size) {
    if (count & (count - 1)) return array;
    array = realloc(array, (count ? 2 * count : 1) * size);
    if (!array) abort();
    return array;
}

static Traffic difference(const Traffic *now, const Traffic *before) {
    return (Traffic){.accesses = now->accesses - before->accesses,
                     .l1_misses = now->l1_misses - before->l1_misses,
                     .l1_prefetched = now->l1_prefetched - before->l1_prefetched,
                     .llc_misses = now->llc_misses - before->llc_misses,
                     .llc_prefetched = now->llc_prefetched - before->llc_prefetched,
                     .llc_writebacks = now->llc_writebacks - before->llc_writebacks,
                     .l1_store_misses = now->l1_store_misses - before->l1_store_misses,
                     .llc_store_misses = now->llc_store_misses - before->llc_store_misses};
}

static void begin_part(void) {
    traffic_at_mark = traffic;
    if (region != 1) return;
    nest_base = nest_length;
    part_starts = grown(part_starts, starts_count, sizeof *part_starts);
    part_starts[starts_count++] = nest_length;
}

static void end_part(void) {
    parts = grown(parts, parts_count, sizeof *parts);
    parts[parts_count++] = difference(&traffic, &traffic_at_mark);
}

static void on_mark(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    if (!inside) return;
    end_part();
    begin_part();
}

static void on_begin(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    inside = true;
    if (++region == 1) {
        cache_empty(&l1);
        cache_empty(&llc);
        memset(merged, 0xff, sizeof merged);
        last_line = NO_LINE;
    }
    traffic_at_begin = traffic;
    begin_part();
}

static void on_end(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    inside = false;
    if (region < 1 || region > MAX_REGIONS) return;
    of_region[region - 1] = difference(&traffic, &traffic_at_begin);
    end_part();
}

/* ---- Translation */

static void on_vset(unsigned cpu, void *data) {
    (void)cpu;
    vtype = (int)(intptr_t)data;
}

/* The vtype that vsetvli or vsetivli sets; vsetvl takes it from a register. */
static int vtype_of(uint32_t word) {
    if (!(word >> 31)) return (word >> 20) & 0x7ff;
    return (word >> 30) == 3 ? (word >> 20) & 0x3ff : VTYPE_UNKNOWN;
}

/* QEMU translates a block anew for each vtype, because its operations depend on it; so here a block has one vtype. */
static Block *find_block(uint64_t start, size_t count) {
    Block **bucket = &blocks[(start >> 1) % BUCKETS];
    for (Block *block = *bucket; block; block = block->next)
        if (block->start == start && block->count == count && block->vtype == vtype) return block;
    Block *block = allocate(1, sizeof *block);
    *block = (Block){.start = start, .end = start, .count = count, .vtype = vtype, .next = *bucket};
    block->bytes = allocate(count, sizeof *block->bytes);
    block->sizes = allocate(count, 1);
    return *bucket = block;
}

static void on_translate(PluginId id, TranslationBlock *tb) {
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(tb);
    Insn *first = qemu_plugin_tb_get_insn(tb, 0);
    Block *block = find_block(qemu_plugin_insn_vaddr(first), count);
    const char *symbol = qemu_plugin_insn_symbol(first);
    if (symbol && !strcmp(symbol, "lrf_begin"))
        qemu_plugin_register_vcpu_insn_exec_cb(first, on_begin, NO_REGISTERS, NULL);
    if (symbol && !strcmp(symbol, "lrf_end"))
        qemu_plugin_register_vcpu_insn_exec_cb(first, on_end, NO_REGISTERS, NULL);
    if (symbol && !strcmp(symbol, "lrf_mark"))
        qemu_plugin_register_vcpu_insn_exec_cb(first, on_mark, NO_REGISTERS, NULL);
    for (size_t i = 0; i < count; i++) {
        Insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
        uint32_t word;
        copy_instruction(insn, block->bytes[i], size);
        memcpy(&word, block->bytes[i], sizeof word);
        block->sizes[i] = (uint8_t)size;
        block->end = qemu_plugin_insn_vaddr(insn) + size;
        if (is_riscv && (word & 0x707f) == 0x7057)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, on_vset, NO_REGISTERS, (void *)(intptr_t)vtype_of(word));
        qemu_plugin_register_vcpu_mem_cb(insn, on_memory, NO_REGISTERS, READ_AND_WRITE, NULL);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, NO_REGISTERS, block);
}

/* ---- Result */

#define EACH_BLOCK(block) \
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) \
        for (Block *block = blocks[bucket]; block; block = block->next)

static void write_traffic(FILE *out, const char *comma, const Traffic *t) {
    fprintf(out, "%s{\"accesses\":%" PRIu64 ",\"l1_misses\":%" PRIu64 ",\"l1_prefetched\":%" PRIu64, comma, t->accesses,
            t->l1_misses, t->l1_prefetched);
    fprintf(out, ",\"llc_misses\":%" PRIu64 ",\"llc_prefetched\":%" PRIu64 ",\"llc_writebacks\":%" PRIu64,
            t->llc_misses, t->llc_prefetched, t->llc_writebacks);
    fprintf(out, ",\"l1_store_misses\":%" PRIu64 ",\"llc_store_misses\":%" PRIu64 "}", t->l1_store_misses,
            t->llc_store_misses);
}

static void write_result(PluginId id, void *unused) {
    (void)id, (void)unused;
    FILE *out = fopen(out_path, "w");
    if (!out) return;
    const char *comma = "";
    fprintf(out, "{\"regions\":[");
    for (int i = 0; i < region && i < MAX_REGIONS; i++, comma = ",") write_traffic(out, comma, &of_region[i]);
    fprintf(out, "],\n\"parts\":[");
    comma = "";
    for (size_t i = 0; i < parts_count; i++, comma = ",") write_traffic(out, comma, &parts[i]);
    fprintf(out, "],\n\"starts\":[");
    comma = "";
    for (size_t i = 0; i < starts_count; i++, comma = ",") fprintf(out, "%s%zu", comma, part_starts[i]);
    fprintf(out, "],\n\"runs\":[");
    comma = "";
    EACH_BLOCK(block) for (Run *run = block->runs; run; run = run->next) {
        if (!run->id) continue;
        fprintf(out, "%s[%d,%" PRIu64 ",%" PRIu64 ",%d]", comma, run->id, block->start, run->last->end, block->vtype);
        comma = ",";
    }
    fprintf(out, "],\n\"nest\":[");
    write_items(out, nest, nest_length);
    fprintf(out, "],\n\"blocks\":[");
    comma = "";
    EACH_BLOCK(block) {
        fprintf(out, "%s\n[%" PRIu64 ",\"", comma, block->start);
        for (size_t i = 0; i < block->count; i++, fputc(' ', out))
            for (int byte = block->sizes[i]; byte-- > 0;) fprintf(out, "%02x", block->bytes[i][byte]);
        fprintf(out, "\"]");
        comma = ",";
    }
    fprintf(out, "]}\n");
    fclose(out);
}

static bool cache_option(Cache *cache, const char *option, const char *name, unsigned *bytes) {
    size_t length = strlen(name);
    return !strncmp(option, name, length) && sscanf(option + length, "%u:%u:%u:%u", bytes, &cache->ways,
                                                    &cache->replacement, &cache->allocates) == 4;
}

EXPORT int qemu_plugin_install(PluginId id, const Info *info, int argc, char **argv) {
    unsigned line = 64, l1_bytes = 0, llc_bytes = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a kernel that hangs must not outlive who measures it */
    is_riscv = !strncmp(info->target_name, "riscv", 5);
    for (int i = 0; i < argc; i++) {
        const char *option = argv[i];
        if (!strncmp(option, "out=", 4)) {
            out_path = strdup(option + 4);
        } else if (sscanf(option, "line=%u", &line) != 1 && sscanf(option, "window=%" SCNu64, &window) != 1 &&
                   sscanf(option, "ahead=%" SCNu64, &ahead) != 1 &&
                   !cache_option(&l1, option, "l1=", &l1_bytes) && !cache_option(&llc, option, "llc=", &llc_bytes)) {
            fprintf(stderr, "lrfmeter: unknown option %s\n", option);
            return -1;
        }
    }
    for (line_shift = 0; (1u << line_shift) < line;) line_shift++;
    if (!l1_bytes || !llc_bytes) {
        fprintf(stderr, "lrfmeter: l1 and llc must be given\n");
        return -1;
    }
    cache_create(&l1, l1_bytes);
    cache_create(&llc, llc_bytes);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, write_result, NULL);
    return 0;
}
