/* A QEMU user-mode plugin that records what a kernel executes, for lrfdse's "model" meter (docs/meter.md).
 *
 * Between lrf_begin() and lrf_end() it records
 *   - straight-line runs: maximal address ranges executed in sequence between two taken branches, which do not depend
 *     on how QEMU cuts translation blocks (at vset instructions, page ends, 512 instructions);
 *   - how often each run follows each other run (edges), in the first region;
 *   - the instruction words of every block, and RVV's vtype at its entry;
 *   - the traffic of a two-level write-allocate LRU cache, in every region.
 * The pair of markers may be passed several times; each pass is a region. The caches are emptied where region 1 begins,
 * so region 1 is the cold run and region 2 the warm one.
 *
 * Options (plugin.so,key=value,...): out=FILE  line=BYTES  l1=KIB:WAYS  llc=KIB:WAYS
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

static uint32_t instruction_word(const Insn *insn, size_t size) {
    uint32_t word = 0;
    size_t bytes = size > sizeof word ? sizeof word : size;
#if LRF_API <= 2
    extern const void *qemu_plugin_insn_data(const Insn *);
    memcpy(&word, qemu_plugin_insn_data(insn), bytes);
#else
    extern size_t qemu_plugin_insn_data(const Insn *, void *, size_t);
    qemu_plugin_insn_data(insn, &word, bytes);
#endif
    return word;
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) abort();
    return memory;
}

/* ---- Caches */

enum { STREAMS = 16, WINDOW = 8, MAX_REGIONS = 8 };
#define NO_LINE UINT64_MAX

typedef struct {
    uint64_t *lines; /* each set in order of use, latest first */
    uint8_t *dirty;
    unsigned sets, ways;
    uint64_t streams[STREAMS]; /* the latest misses, for the prefetch rule */
    unsigned oldest_stream;
} Cache;

typedef struct {
    uint64_t accesses, l1_misses, l1_prefetched, llc_misses, llc_prefetched, llc_writebacks;
} Traffic;

static Cache l1, llc;
static Traffic traffic, traffic_at_begin, of_region[MAX_REGIONS];
static unsigned line_shift = 6;
static uint64_t last_line = NO_LINE;
static bool last_was_store;

static void cache_empty(Cache *cache) {
    memset(cache->lines, 0xff, sizeof *cache->lines * cache->sets * cache->ways);
    memset(cache->dirty, 0, (size_t)cache->sets * cache->ways);
    memset(cache->streams, 0xee, sizeof cache->streams);
}

static void cache_create(Cache *cache, unsigned kib, unsigned ways) {
    cache->ways = ways;
    cache->sets = (kib * 1024 / ways) >> line_shift;
    if (cache->sets == 0) cache->sets = 1;
    cache->lines = allocate((size_t)cache->sets * ways, sizeof *cache->lines);
    cache->dirty = allocate((size_t)cache->sets * ways, 1);
    cache_empty(cache);
}

/* Look a line up and make it the latest of its set; return whether it was there, else the dirty line it displaces. */
static bool cache_access(Cache *cache, uint64_t line, bool store, uint64_t *displaced) {
    uint64_t *lines = cache->lines + line % cache->sets * cache->ways;
    uint8_t *dirty = cache->dirty + line % cache->sets * cache->ways;
    unsigned way = 0;
    while (way < cache->ways && lines[way] != line) way++;
    bool hit = way < cache->ways;
    uint8_t now_dirty = hit ? (dirty[way] | store) : store;
    if (!hit) {
        way = cache->ways - 1;
        *displaced = dirty[way] ? lines[way] : NO_LINE;
    }
    memmove(lines + 1, lines, sizeof *lines * way);
    memmove(dirty + 1, dirty, way);
    lines[0] = line;
    dirty[0] = now_dirty;
    return hit;
}

/* A miss at most WINDOW lines ahead of a recent miss counts as prefetched: it costs bandwidth, not latency. */
static bool is_prefetched(Cache *cache, uint64_t line) {
    for (unsigned i = 0; i < STREAMS; i++) {
        if (line - cache->streams[i] - 1 < WINDOW) {
            cache->streams[i] = line;
            return true;
        }
    }
    cache->streams[cache->oldest_stream++ % STREAMS] = line;
    return false;
}

static void access_line(uint64_t line, bool store) {
    uint64_t from_l1 = NO_LINE, from_llc = NO_LINE;
    traffic.accesses++;
    if (cache_access(&l1, line, store, &from_l1)) return;
    traffic.l1_misses++;
    traffic.l1_prefetched += is_prefetched(&l1, line);
    if (from_l1 != NO_LINE && !cache_access(&llc, from_l1, true, &from_llc))
        traffic.llc_writebacks += from_llc != NO_LINE;
    if (cache_access(&llc, line, false, &from_llc)) return;
    traffic.llc_misses++;
    traffic.llc_prefetched += is_prefetched(&llc, line);
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

/* ---- Blocks, runs and edges */

enum { BUCKETS = 4096, VTYPE_UNKNOWN = -1 };

typedef struct Run Run;
typedef struct Block Block;
typedef struct Edge {
    Run *to;
    uint64_t count;
    struct Edge *next;
} Edge;
struct Run {
    Block *first, *last;
    Edge *edges; /* most recently taken first, as are the runs of a block: loops find theirs at once */
    int id;      /* given when the run is part of a counted edge; else 0 */
    Run *next;
};
struct Block {
    uint64_t start, end;
    size_t count;
    int vtype;
    uint32_t *words;
    uint8_t *sizes;
    Run *runs;
    Block *next;
};

static Block *blocks[BUCKETS];
static Block *run_first, *run_last;
static uint64_t expected_start;
static Run *previous_run;
static int run_ids, region, vtype = VTYPE_UNKNOWN;
static bool inside, is_riscv;
static const char *out_path = "trace.json";

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

static Edge *find_edge(Run *from, Run *to) {
    for (Edge **link = &from->edges, *edge; (edge = *link); link = &edge->next) {
        if (edge->to != to) continue;
        *link = edge->next;
        edge->next = from->edges;
        return from->edges = edge;
    }
    Edge *edge = allocate(1, sizeof *edge);
    *edge = (Edge){.to = to, .next = from->edges};
    return from->edges = edge;
}

static void finish_run(void) {
    Run *run = find_run(run_first, run_last);
    if (inside && region == 1 && previous_run) {
        if (!previous_run->id) previous_run->id = ++run_ids;
        if (!run->id) run->id = ++run_ids;
        find_edge(previous_run, run)->count++;
    }
    previous_run = run;
}

static void on_block(unsigned cpu, void *data) {
    (void)cpu;
    Block *block = data;
    if (block->start != expected_start) {
        if (run_first) finish_run();
        run_first = block;
    }
    run_last = block;
    expected_start = block->end;
}

static void on_begin(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    inside = true;
    previous_run = NULL; /* what led here is not the kernel's */
    if (++region == 1) {
        cache_empty(&l1);
        cache_empty(&llc);
        last_line = NO_LINE;
    }
    traffic_at_begin = traffic;
}

static void on_end(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    inside = false;
    if (region < 1 || region > MAX_REGIONS) return;
    Traffic *sum = &of_region[region - 1];
    sum->accesses = traffic.accesses - traffic_at_begin.accesses;
    sum->l1_misses = traffic.l1_misses - traffic_at_begin.l1_misses;
    sum->l1_prefetched = traffic.l1_prefetched - traffic_at_begin.l1_prefetched;
    sum->llc_misses = traffic.llc_misses - traffic_at_begin.llc_misses;
    sum->llc_prefetched = traffic.llc_prefetched - traffic_at_begin.llc_prefetched;
    sum->llc_writebacks = traffic.llc_writebacks - traffic_at_begin.llc_writebacks;
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
    block->words = allocate(count, sizeof *block->words);
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
    for (size_t i = 0; i < count; i++) {
        Insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
        uint32_t word = instruction_word(insn, size);
        block->words[i] = word;
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

static void write_result(PluginId id, void *unused) {
    (void)id, (void)unused;
    FILE *out = fopen(out_path, "w");
    if (!out) return;
    const char *comma = "";
    fprintf(out, "{\"regions\":[");
    for (int i = 0; i < region && i < MAX_REGIONS; i++, comma = ",") {
        const Traffic *t = &of_region[i];
        fprintf(out, "%s{\"accesses\":%" PRIu64 ",\"l1_misses\":%" PRIu64 ",\"l1_prefetched\":%" PRIu64, comma,
                t->accesses, t->l1_misses, t->l1_prefetched);
        fprintf(out, ",\"llc_misses\":%" PRIu64 ",\"llc_prefetched\":%" PRIu64 ",\"llc_writebacks\":%" PRIu64 "}",
                t->llc_misses, t->llc_prefetched, t->llc_writebacks);
    }
    fprintf(out, "],\n\"runs\":[");
    comma = "";
    EACH_BLOCK(block) for (Run *run = block->runs; run; run = run->next) {
        if (!run->id) continue;
        fprintf(out, "%s[%d,%" PRIu64 ",%" PRIu64 ",%d]", comma, run->id, block->start, run->last->end, block->vtype);
        comma = ",";
    }
    fprintf(out, "],\n\"edges\":[");
    comma = "";
    EACH_BLOCK(block) for (Run *run = block->runs; run; run = run->next) for (Edge *e = run->edges; e; e = e->next) {
        fprintf(out, "%s[%d,%d,%" PRIu64 "]", comma, run->id, e->to->id, e->count);
        comma = ",";
    }
    fprintf(out, "],\n\"blocks\":[");
    comma = "";
    EACH_BLOCK(block) {
        fprintf(out, "%s\n[%" PRIu64 ",\"", comma, block->start);
        for (size_t i = 0; i < block->count; i++)
            fprintf(out, block->sizes[i] == 2 ? "%04x " : "%08x ", block->words[i]);
        fprintf(out, "\"]");
        comma = ",";
    }
    fprintf(out, "]}\n");
    fclose(out);
}

EXPORT int qemu_plugin_install(PluginId id, const Info *info, int argc, char **argv) {
    unsigned line = 64, l1_kib = 32, l1_ways = 8, llc_kib = 512, llc_ways = 16;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a kernel that hangs must not outlive who measures it */
    is_riscv = !strncmp(info->target_name, "riscv", 5);
    for (int i = 0; i < argc; i++) {
        const char *option = argv[i];
        if (!strncmp(option, "out=", 4)) {
            out_path = strdup(option + 4);
        } else if (sscanf(option, "line=%u", &line) != 1 && sscanf(option, "l1=%u:%u", &l1_kib, &l1_ways) != 2 &&
                   sscanf(option, "llc=%u:%u", &llc_kib, &llc_ways) != 2) {
            fprintf(stderr, "lrfmeter: unknown option %s\n", option);
            return -1;
        }
    }
    for (line_shift = 0; (1u << line_shift) < line;) line_shift++;
    cache_create(&l1, l1_kib, l1_ways);
    cache_create(&llc, llc_kib, llc_ways);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, write_result, NULL);
    return 0;
}
