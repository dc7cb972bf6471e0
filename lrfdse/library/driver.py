"""The C source of a library's own functions: what checks the arguments, and calls one operator after the other."""

from __future__ import annotations

from collections.abc import Sequence

from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.library.interface import Signature
from lrfdse.library.layout import LINE, Layout, Place
from lrfdse.library.names import macro
from lrfdse.library.tensor import Tensor
from lrfdse.targets.target import Target

HEAD = 40
"""Bytes of a block of weights that are compared: the magic and the digest, see `lrfdse.library.layout.Layout`."""


def driver(facts: Signature, layout: Layout, target: Target) -> str:
    """Return C99 that defines ``NAME_run`` and ``NAME_supported``.

    Functions of operators, and the weights where they are part of the library, are declared hidden, which makes them
    hidden in the library. Compiled with ``LRF_MARKS``, it calls ``lrf_mark()`` before every operator: so they are told
    apart where they are timed.
    """
    name, upper = facts.name, macro(facts.name)
    inside = facts.weights_file is None
    functions = {step.compiled.symbol: len(step.places) for step in layout.steps}
    declared = [f"HIDDEN void {symbol}({', '.join(['const void *'] * count)});" for symbol, count in functions.items()]
    body = target.needs.body
    calls = [
        line
        for step in layout.steps
        for line in (
            "    MARK();",
            f"    {step.compiled.symbol}({', '.join(_pointer(p, name, inside) for p in step.places)});",
        )
    ]
    return "\n".join(
        [
            "#include <stddef.h>",
            "#include <stdint.h>",
            f'#include "{name}.h"',
            "",
            '#define HIDDEN __attribute__((visibility("hidden")))',
            "#ifdef LRF_MARKS",
            "void lrf_mark(void);",
            "#define MARK() lrf_mark()",
            "#else",
            "#define MARK() (void)0",
            "#endif",
            "",
            f"HIDDEN extern const unsigned char {name}_weights[];" if inside else _head(layout.weights),
            *declared,
            "",
            *_sizes("input", facts.inputs),
            *_sizes("output", facts.outputs),
            "",
            "static int asked(void)",
            "{",
            *(line if line.startswith("#") else f"    {line}" for line in body),
            "}",
            "",
            "/* Asking may take longer than a small model; whoever asks gets the same answer, so no run waits. */",
            f"int {name}_supported(void)",
            "{",
            "    static int answer;",
            "    int known = __atomic_load_n(&answer, __ATOMIC_RELAXED);",
            "    if (!known) {",
            "        known = asked() ? 1 : 2;",
            "        __atomic_store_n(&answer, known, __ATOMIC_RELAXED);",
            "    }",
            "    return known == 1;",
            "}",
            "",
            "static int overlap(const void *one, size_t bytes, const void *other, size_t others)",
            "{",
            "    uintptr_t a = (uintptr_t)one, b = (uintptr_t)other;",
            "    return a < b + others && b < a + bytes;",
            "}",
            "",
            *_check(facts),
            "",
            facts.run,
            "{",
            f"    int wrong = check(inputs, outputs, arena{'' if inside else ', weights'});",
            "    if (wrong) return wrong;",
            "    unsigned char *a = (unsigned char *)arena;",
            "    (void)a;",
            *([] if inside else ["    const unsigned char *w = (const unsigned char *)weights;", "    (void)w;"]),
            *calls,
            f"    return {upper}_OK;",
            "}",
            "",
        ]
    )


def _pointer(place: Place, name: str, inside: bool) -> str:
    match place.where:
        case "input":
            return f"inputs[{place.at}]"
        case "output":
            return f"outputs[{place.at}]"
        case "arena":
            return f"a + {place.at}"
        case _:
            return f"{name}_weights + {place.at}" if inside else f"w + {place.at}"


def _head(weights: bytes) -> str:
    return f"static const unsigned char head[] = {{{', '.join(map(str, weights[:HEAD]))}}};"


def _sizes(kind: str, tensors: Sequence[Tensor]) -> list[str]:
    sizes = ", ".join(str(tensor.bytes) for tensor in tensors)
    aligned = ", ".join(str(ELEMENT_SIZE[tensor.element]) for tensor in tensors)
    return [
        f"static const size_t {kind}_bytes[] = {{{sizes}}};",
        f"static const unsigned char {kind}_align[] = {{{aligned}}};",
    ]


def _check(facts: Signature) -> list[str]:
    """Return the C function that returns an error, or 0 where everything is as it must be."""
    upper, inside = macro(facts.name), facts.weights_file is None
    head = facts.run.replace(f"int {facts.name}_run", "static int check")
    null = "!inputs || !outputs || !arena" + ("" if inside else " || !weights")
    aligned = f"(uintptr_t)arena % {upper}_ARENA_ALIGN" + ("" if inside else f" || (uintptr_t)weights % {LINE}")
    lines = [
        head,
        "{",
        f"    if ({null}) return {upper}_NULL_POINTER;",
        f"    for (int i = 0; i < {upper}_INPUTS; i++)",
        f"        if (!inputs[i]) return {upper}_NULL_POINTER;",
        f"    for (int i = 0; i < {upper}_OUTPUTS; i++)",
        f"        if (!outputs[i]) return {upper}_NULL_POINTER;",
        f"    if ({aligned}) return {upper}_MISALIGNED;",
        f"    for (int i = 0; i < {upper}_INPUTS; i++)",
        f"        if ((uintptr_t)inputs[i] % input_align[i]) return {upper}_MISALIGNED;",
        f"    for (int i = 0; i < {upper}_OUTPUTS; i++)",
        f"        if ((uintptr_t)outputs[i] % output_align[i]) return {upper}_MISALIGNED;",
        f"    for (int i = 0; i < {upper}_INPUTS; i++)",
        f"        if (overlap(arena, {upper}_ARENA_BYTES, inputs[i], input_bytes[i])) return {upper}_OVERLAP;",
        f"    for (int i = 0; i < {upper}_OUTPUTS; i++) {{",
        f"        if (overlap(arena, {upper}_ARENA_BYTES, outputs[i], output_bytes[i])) return {upper}_OVERLAP;",
        f"        for (int j = 0; j < {upper}_INPUTS; j++)",
        f"            if (overlap(inputs[j], input_bytes[j], outputs[i], output_bytes[i])) return {upper}_OVERLAP;",
        "        for (int j = 0; j < i; j++)",
        f"            if (overlap(outputs[j], output_bytes[j], outputs[i], output_bytes[i])) return {upper}_OVERLAP;",
    ]
    if not inside:
        overlaps = f"overlap(weights, {upper}_WEIGHTS_BYTES, outputs[i], output_bytes[i])"
        lines.append(f"        if ({overlaps}) return {upper}_OVERLAP;")
    lines.append("    }")
    if not inside:
        lines.append(
            f"    if (overlap(weights, {upper}_WEIGHTS_BYTES, arena, {upper}_ARENA_BYTES)) return {upper}_OVERLAP;"
        )
    lines.append(f"    if (!{facts.name}_supported()) return {upper}_UNSUPPORTED;")
    if not inside:
        lines += [
            f"    for (int i = 0; i < {HEAD}; i++)",
            f"        if (((const unsigned char *)weights)[i] != head[i]) return {upper}_WRONG_WEIGHTS;",
        ]
    return [*lines, f"    return {upper}_OK;", "}"]
