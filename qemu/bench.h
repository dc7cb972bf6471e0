/* What bench_system.c, the system below a board's program, does for bench.c, which runs kernels. */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>

/* Whatever fails below calls `report` with the reason and ends the program. */
void on_failure(void (*report)(const char *why));

/* A document that is printed by leave(), whole, or not at all. */
void begin_text(char *room, size_t bytes);
void restart_text(void);
int text_is_full(void);
void put(const char *from, size_t bytes);
void say(const char *what);
void say_whole(double value);
void say_tenths(double value);
/* Any bytes as a JSON string; those outside ASCII count as Latin-1. */
void say_quoted(const char *what, size_t bytes);
_Noreturn void leave(int status);

/* The compiler may call these for any copy or filling of its own. */
void *memset(void *to, int byte, size_t bytes);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);

size_t length(const char *of);
int begins(const char *line, const char *with);
/* The number that a text begins with, and the letter K or M after it; -1 without one or beyond `largest`. */
double number_of(const char *of, double largest);

/* Zeros, or the end of the program. */
void *memory(size_t bytes);
double now_ns(void);
void catch_signals(void);
void end_after(long seconds);
/* Stay on one core: the wanted one, else (-1) the last that this process may use. Return its number, or -1. */
long pin(double wanted_core);
double largest_cache(long core);
/* The members of a JSON object that describe the system, the core, and its clock. */
void say_board(long core);

#endif
