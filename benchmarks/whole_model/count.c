/* A QEMU user-mode plugin that counts the instructions between lrf_begin() and lrf_end() of qemu/harness.c.
 *
 * Option: out=FILE, which gets the instructions of each pass, a line each. It only counts, so that code which
 * qemu/lrfmeter.c would follow for minutes runs in seconds. QEMU's plugin interface is declared here rather than
 * included, because distributions do not package its header; LRF_API selects the interface version.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t PluginId;
typedef struct qemu_plugin_tb TranslationBlock;
typedef struct qemu_plugin_insn Insn;
enum { NO_REGISTERS = 0, MOST_PASSES = 8 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(PluginId, void (*)(PluginId, TranslationBlock *));
extern void qemu_plugin_register_atexit_cb(PluginId, void (*)(PluginId, void *), void *);
extern void qemu_plugin_register_vcpu_insn_exec_cb(Insn *, void (*)(unsigned, void *), int, void *);
extern void qemu_plugin_register_vcpu_tb_exec_cb(TranslationBlock *, void (*)(unsigned, void *), int, void *);
extern size_t qemu_plugin_tb_n_insns(const TranslationBlock *);
extern Insn *qemu_plugin_tb_get_insn(const TranslationBlock *, size_t);
extern const char *qemu_plugin_insn_symbol(const Insn *);

EXPORT int qemu_plugin_version = LRF_API;

static uint64_t executed, begun, counts[MOST_PASSES];
static int passes;
static char path[4096];

static void on_block(unsigned cpu, void *length) {
    (void)cpu;
    executed += (uintptr_t)length;
}

static void on_begin(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    begun = executed;
}

static void on_end(unsigned cpu, void *unused) {
    (void)cpu, (void)unused;
    if (passes < MOST_PASSES) counts[passes++] = executed - begun;
}

static void on_translate(PluginId id, TranslationBlock *tb) {
    (void)id;
    size_t length = qemu_plugin_tb_n_insns(tb);
    Insn *first = qemu_plugin_tb_get_insn(tb, 0);
    const char *symbol = qemu_plugin_insn_symbol(first);
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, NO_REGISTERS, (void *)(uintptr_t)length);
    if (symbol && !strcmp(symbol, "lrf_begin"))
        qemu_plugin_register_vcpu_insn_exec_cb(first, on_begin, NO_REGISTERS, NULL);
    if (symbol && !strcmp(symbol, "lrf_end"))
        qemu_plugin_register_vcpu_insn_exec_cb(first, on_end, NO_REGISTERS, NULL);
}

static void write_counts(PluginId id, void *unused) {
    (void)id, (void)unused;
    FILE *out = fopen(path, "w");
    if (!out) return;
    for (int i = 0; i < passes; i++) fprintf(out, "%" PRIu64 "\n", counts[i]);
    fclose(out);
}

EXPORT int qemu_plugin_install(PluginId id, const void *info, int argc, char **argv) {
    (void)info;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a program that hangs must not outlive who counts it */
    if (argc != 1 || strncmp(argv[0], "out=", 4) || strlen(argv[0]) >= sizeof path) return -1;
    strcpy(path, argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, write_counts, NULL);
    return 0;
}
