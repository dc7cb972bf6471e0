/* The system below a board's program without a C library: memory, time, text, and the board's description.
 *
 * Nothing divides integers and nothing converts 64-bit integers: 32-bit ARM would need a library for both.
 */
#include "bench.h"

#include "system.h"

enum { FILE_BYTES = 1 << 18 };

void *memset(void *to, int byte, size_t bytes) {
    for (volatile unsigned char *at = to; bytes; bytes--) *at++ = (unsigned char)byte;
    return to;
}
void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    volatile unsigned char *at = to;
    for (const unsigned char *next = from; bytes; bytes--) *at++ = *next++;
    return to;
}

static char *text;
static size_t text_used, text_size;

void begin_text(char *room, size_t bytes) { text = room, text_size = bytes, text_used = 0; }
void restart_text(void) { text_used = 0; }
int text_is_full(void) { return text_used == text_size; }

void put(const char *from, size_t bytes) {
    for (; bytes && text_used < text_size; bytes--) text[text_used++] = *from++;
}
size_t length(const char *of) {
    size_t bytes = 0;
    while (of[bytes]) bytes++;
    return bytes;
}
void say(const char *what) { put(what, length(what)); }

/* A whole number of at most 15 digits, with a point after the digit that counts `point`. */
static void say_digits(double value, double point) {
    double unit = point;
    while (unit * 10 <= value && unit < 1e15) unit *= 10;
    for (; unit >= 1; unit /= 10) {
        int digit = (int)(value / unit);
        if (digit > 9) digit = 9;
        char shown = (char)('0' + digit);
        put(&shown, 1);
        if (unit == point && point > 1) say(".");
        value -= digit * unit;
    }
}
void say_whole(double value) { say_digits(value, 1); }
void say_tenths(double value) { say_digits(value * 10 + 0.5, 10); }

void say_quoted(const char *what, size_t bytes) {
    static const char hex[] = "0123456789abcdef";
    say("\"");
    for (; bytes && *what; bytes--, what++) {
        unsigned char byte = (unsigned char)*what;
        if (byte < 0x20 || byte >= 0x7f || byte == '"' || byte == '\\') {
            char escape[] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
            put(escape, sizeof escape);
        } else {
            put(what, 1);
        }
    }
    say("\"");
}

static void (*report)(const char *why);

void on_failure(void (*with)(const char *why)) { report = with; }

_Noreturn void leave(int status) {
    for (size_t done = 0; done < text_used;) {
        long wrote = system_call(WRITE, 1, (long)(text + done), (long)(text_used - done), 0, 0, 0);
        if (wrote <= 0) break;
        done += (size_t)wrote;
    }
    for (;;) system_call(EXIT, status, 0, 0, 0, 0, 0);
}

static _Noreturn void fail(const char *why) {
    report(why);
    leave(1);
}

enum { SIGILL = 4, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGALRM = 14 };

static void on_signal(int number) {
    switch (number) {
    case SIGILL: fail("illegal instruction: this machine lacks what the kernels were compiled for");
    case SIGALRM: fail("no end within the time limit");
    default: fail("crashed: a kernel read or wrote where it must not");
    }
}

void catch_signals(void) {
    static const int numbers[] = {SIGILL, SIGBUS, SIGFPE, SIGSEGV, SIGALRM};
    struct {
        void (*handler)(int);
        unsigned long flags;
#if !defined(__riscv)
        void (*restorer)(int);
#endif
        unsigned long mask[8 / sizeof(long)];
    } action = {.handler = on_signal};
#if defined(__x86_64__)
    /* The system demands one; no handler here returns to it. */
    action.flags = 0x04000000;
    action.restorer = on_signal;
#endif
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        system_call(ACTION, numbers[i], (long)&action, 0, 8, 0, 0);
}

void *memory(size_t bytes) {
    enum { READ_WRITE = 3, PRIVATE_ANONYMOUS = 0x22 };
    long found = system_call(MMAP, 0, (long)bytes, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
    if (found < 0 && found > -4096) fail("out of memory");
    return (void *)found;
}

double now_ns(void) {
#if defined(__arm__)
    /* The call for 64-bit times, of Linux 5.1; before it the one for 32-bit times. */
    enum { CLOCK_64 = 403 };
    int64_t wide[2];
    if (system_call(CLOCK_64, 1, (long)wide, 0, 0, 0, 0) == 0)
        return 1e9 * (double)(int32_t)wide[0] + (double)(int32_t)wide[1];
#endif
    long time[2];
    if (system_call(CLOCK, 1, (long)time, 0, 0, 0, 0)) fail("no monotonic clock");
    return 1e9 * (double)time[0] + (double)time[1];
}

void end_after(long seconds) {
    long times[4] = {0, 0, seconds, 0};
    system_call(TIMER, 0, (long)times, 0, 0, 0, 0);
}

static char file_text[FILE_BYTES + 1];

/* The beginning of a file, or nothing. */
static size_t read_file(const char *path) {
    size_t bytes = 0;
    long file = system_call(OPENAT, -100, (long)path, 0, 0, 0, 0);
    if (file >= 0) {
        for (long got; bytes < FILE_BYTES; bytes += (size_t)got) {
            got = system_call(READ, file, (long)(file_text + bytes), (long)(FILE_BYTES - bytes), 0, 0, 0);
            if (got <= 0) break;
        }
        system_call(CLOSE, file, 0, 0, 0, 0, 0);
    }
    file_text[bytes] = 0;
    return bytes;
}

double number_of(const char *of, double largest) {
    double value = 0;
    if (*of < '0' || *of > '9') return -1;
    for (; *of >= '0' && *of <= '9'; of++) value = value * 10 + (*of - '0');
    if (*of == 'K') value *= 1024;
    if (*of == 'M') value *= 1048576;
    return value <= largest ? value : -1;
}

/* A path of this processor's: before, its number, after. */
static size_t read_processor_file(long core, const char *after) {
    static char path[128];
    size_t used = 0;
    char digits[12];
    int count = 0;
    for (const char *from = "/sys/devices/system/cpu/cpu"; *from; from++) path[used++] = *from;
    for (unsigned rest = (unsigned)core; count == 0 || rest;) {
        unsigned tenth = (unsigned)(((uint64_t)rest * 3435973837u) >> 35);
        digits[count++] = (char)('0' + (rest - tenth * 10));
        rest = tenth;
    }
    while (count) path[used++] = digits[--count];
    while (*after && used < sizeof path - 1) path[used++] = *after++;
    path[used] = 0;
    return read_file(path);
}

double largest_cache(long core) {
    static char name[] = "/cache/index0/size";
    double largest = 0;
    for (char digit = '0'; digit <= '9'; digit++) {
        name[12] = digit;
        double bytes = read_processor_file(core, name) ? number_of(file_text, 1e10) : -1;
        if (bytes > largest) largest = bytes;
    }
    return largest;
}

static void say_frequency(const char *name, long core, const char *file) {
    double khz = read_processor_file(core, file) ? number_of(file_text, 1e9) : -1;
    say(name);
    if (khz > 0) say_whole(khz);
    else say("null");
}

int begins(const char *line, const char *with) {
    for (; *with; line++, with++)
        if (*line != *with) return 0;
    return 1;
}

/* Whether a line is of a name, and where its value begins. */
static const char *value_of(const char *line, const char *end, const char *name) {
    if (!begins(line, name)) return NULL;
    for (line += length(name); line < end && (*line == ' ' || *line == '\t'); line++) {}
    if (line == end || *line++ != ':') return NULL;
    for (; line < end && (*line == ' ' || *line == '\t'); line++) {}
    return line;
}

/* Members for what /proc/cpuinfo says of a core (-1: of any), and of the machine as a whole; return how many. */
static int say_lines(double core, size_t bytes) {
    static const char *const keys[] = {
        "isa", "uarch", "mvendorid", "marchid", "mimpid", "model name", "vendor_id", "Features", "CPU implementer",
        "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Hardware", "Model",
    };
    enum { KEYS = sizeof keys / sizeof *keys, OF_MACHINE = 2 };
    int told[KEYS] = {0}, count = 0;
    double block = -1;
    const char *line = file_text, *end = line;
    for (; line < file_text + bytes; line = end + 1) {
        for (end = line; *end && *end != '\n'; end++) {}
        const char *value = value_of(line, end, "processor");
        if (value) block = number_of(value, 1e9);
        for (int k = 0; k < KEYS; k++) {
            int asked = core < 0 || block < 0 || block == core || k >= KEYS - OF_MACHINE;
            value = asked && !told[k] ? value_of(line, end, keys[k]) : NULL;
            if (!value) continue;
            told[k] = 1;
            say(count++ ? "," : "");
            say_quoted(keys[k], length(keys[k]));
            say(":");
            say_quoted(value, (size_t)(end - value));
        }
    }
    return count;
}

static void say_processor(long core) {
    size_t bytes = read_file("/proc/cpuinfo");
    say(",\"cpuinfo\":{");
    /* Old kernels say it once for all cores, in the block of any. */
    if (!say_lines((double)core, bytes)) say_lines(-1, bytes);
    say("}");
}

static void say_system(void) {
    static const char *const names[] = {"sysname", "nodename", "release", "version", "machine"};
    static char parts[6][65];
    if (system_call(UNAME, (long)parts, 0, 0, 0, 0, 0)) return;
    say("\"uname\":{");
    for (int i = 0; i < 5; i++) {
        say(i ? "," : "");
        say_quoted(names[i], length(names[i]));
        say(":");
        say_quoted(parts[i], sizeof parts[i]);
    }
    say("},");
}

long pin(double wanted_core) {
    static unsigned char mask[1024];
    long bytes = system_call(GET_AFFINITY, 0, sizeof mask, (long)mask, 0, 0, 0), core = -1;
    for (long i = 0; i < bytes * 8; i++)
        if (mask[i >> 3] >> (i & 7) & 1 && (wanted_core < 0 || wanted_core == (double)i)) core = i;
    if (core < 0 && wanted_core >= 0) fail("no core of that number to run on");
    if (core < 0) return -1;
    memset(mask, 0, sizeof mask);
    mask[core >> 3] = (unsigned char)(1 << (core & 7));
    return system_call(SET_AFFINITY, 0, sizeof mask, (long)mask, 0, 0, 0) ? -1 : core;
}

/* An emulator that runs one program answers for /proc/self, but is itself what /proc/thread-self shows: the name of the
 * first mapped file that is called qemu-something, or null.
 */
static void say_emulator(void) {
    static const char prefix[] = "/qemu-";
    size_t bytes = read_file("/proc/thread-self/maps");
    say("\"emulator\":");
    for (const char *at = file_text, *name = NULL; at < file_text + bytes; at++) {
        if (begins(at, prefix)) name = at + 1;
        else if (*at == '/') name = NULL;
        if (*at == '\n' && name) {
            say_quoted(name, (size_t)(at - name));
            say(",");
            return;
        }
        if (*at == '\n') name = NULL;
    }
    say("null,");
}

void say_board(long core) {
    say_system();
    say_emulator();
    say("\"core\":");
    if (core < 0) say("null");
    else say_whole((double)core);
    say_processor(core);
    long seen = core < 0 ? 0 : core;
    size_t bytes = read_processor_file(seen, "/cpufreq/scaling_governor");
    while (bytes && (file_text[bytes - 1] == '\n' || file_text[bytes - 1] == ' ')) bytes--;
    say(",\"governor\":");
    if (bytes) say_quoted(file_text, bytes);
    else say("null");
    say_frequency(",\"frequency_khz\":", seen, "/cpufreq/scaling_cur_freq");
    say_frequency(",\"max_frequency_khz\":", seen, "/cpufreq/cpuinfo_max_freq");
}
