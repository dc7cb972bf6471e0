"""``example.c``: a program that runs a library on its test vectors and says whether the outputs are right."""

from __future__ import annotations

from collections.abc import Sequence

from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.library.interface import Signature
from lrfdse.library.layout import LINE
from lrfdse.library.names import macro
from lrfdse.library.tensor import Tensor
from lrfdse.library.vectors import FILE

_VALUES = {
    "float32": "float",
    "float64": "double",
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "bool": "uint8_t",
}
"""The C type of each element type that C has."""

_HALF = """\
static double half(uint16_t bits)
{
    int exponent = (bits >> 10) & 31;
    double value = bits & 1023;
    if (exponent == 31) return value > 0 ? NAN : bits >> 15 ? -INFINITY : INFINITY;
    if (exponent) value += 1024;
    else exponent = 1;
    for (exponent -= 25; exponent < 0; exponent++) value /= 2;
    for (; exponent > 0; exponent--) value *= 2;
    return bits >> 15 ? -value : value;
}
"""

_COMPARE = """\
/* Returns the largest error of an array relative to its largest finite element, or infinity where one is not finite. */
static double error_of(double (*value)(const void *, size_t), const void *found, const void *expected, size_t count)
{
    double largest = 0, error = 0;
    for (size_t i = 0; i < count; i++) {
        double is = value(found, i), due = value(expected, i), off = is < due ? due - is : is - due;
        if (due - due == 0 && largest < (due < 0 ? -due : due)) largest = due < 0 ? -due : due;
        if (is == due || (is != is && due != due)) continue;
        if (!(off <= error)) error = off == off ? off : INFINITY;
    }
    return largest > 0 ? error / largest : error;
}
"""

_READ = """\
/* Returns the content of a file at an address that is a multiple of LINE, or ends the program. */
static const unsigned char *content_of(const char *path, size_t bytes)
{
    unsigned char *memory = (unsigned char *)malloc(bytes + LINE);
    FILE *file = fopen(path, "rb");
    if (memory) memory += LINE - (uintptr_t)memory % LINE;
    if (!memory || !file || fread(memory, 1, bytes, file) != bytes) {
        fprintf(stderr, "%s: %lu bytes cannot be read: is it in the current folder?\\n", path, (unsigned long)bytes);
        exit(3);
    }
    fclose(file);
    return memory;
}
"""


def example(facts: Signature, *, vectors_file: bool) -> str:
    """Return the text of ``example.c``, in C99 that is C++, too.

    Parameters
    ----------
    facts
        The library.
    vectors_file
        Whether the test vectors lie in a file beside their header.
    """
    name, upper = facts.name, macro(facts.name)
    elements = sorted({tensor.element for tensor in facts.outputs})
    reads = vectors_file or facts.weights_file is not None
    functions = []
    for element in elements:
        result = "half(((const uint16_t *)array)[i])"
        if element != "float16":
            result = f"(double)((const {_VALUES[element]} *)array)[i]"
        functions.append(f"static double value_of_{element}(const void *array, size_t i) {{ return {result}; }}")
    outputs = [
        f"static uint{8 * ELEMENT_SIZE[t.element]}_t output_{n}[{upper}_OUTPUT_{n}_BYTES / {ELEMENT_SIZE[t.element]}];"
        for n, t in enumerate(facts.outputs)
    ]
    prepared = []
    if vectors_file:
        prepared.append(f'    const unsigned char *vectors = content_of("{FILE}", {upper}_TEST_BYTES);')
    if facts.weights_file is not None:
        prepared.append(f'    const unsigned char *weights = content_of("{name}_weights.bin", {upper}_WEIGHTS_BYTES);')
    weights = "" if facts.weights_file is None else ", weights"
    call = f"{name}_run(inputs, outputs, arena{weights})"

    def vector(kind: str, number: int) -> str:
        if vectors_file:
            return f"vectors + {upper}_{kind.upper()}_{number}_AT"
        return f"{name}_{kind}_{number}"

    checks = [line for n, tensor in enumerate(facts.outputs) for line in _check(facts, tensor, n, vector("output", n))]
    return "\n".join(
        [
            f"/* Runs {name} on its test vectors and says whether the outputs are right: the exit code is 0 then.",
            " *",
            " *     example [RUNS]",
            " *",
            " * With a number it also runs the model so many times and prints the processor time of a run.",
            " */",
            "#include <math.h>",
            "#include <stdint.h>",
            "#include <stdio.h>",
            "#include <stdlib.h>",
            "#include <time.h>",
            f'#include "{name}.h"',
            '#include "test_vectors.h"',
            "",
            "/* Memory that the model works in; it may be anywhere, such as on the stack, as long as it is aligned. */",
            f"static unsigned char memory[{upper}_ARENA_BYTES + {upper}_ARENA_ALIGN];",
            *outputs,
            "",
            *([_HALF] if "float16" in elements else []),
            *functions,
            "",
            _COMPARE,
            *([f"#define LINE {LINE}", "", _READ] if reads else []),
            "int main(int count, char **arguments)",
            "{",
            f"    unsigned char *arena = memory + {upper}_ARENA_ALIGN - (uintptr_t)memory % {upper}_ARENA_ALIGN;",
            *prepared,
            f"    const void *inputs[] = {{{', '.join(vector('input', n) for n in range(len(facts.inputs)))}}};",
            f"    void *outputs[] = {{{', '.join(f'output_{n}' for n in range(len(outputs)))}}};",
            f"    int status = {call}, wrong = 0;",
            "    if (status) {",
            f'        fprintf(stderr, "{name}_run() returned %d, see enum {name}_error in {name}.h\\n", status);',
            "        return 2;",
            "    }",
            *checks,
            "    long runs = count > 1 ? strtol(arguments[1], NULL, 10) : 0;",
            "    clock_t begin = clock();",
            f"    for (long i = 0; i < runs; i++) (void){call};",
            "    double seconds = (double)(clock() - begin) / (double)CLOCKS_PER_SEC;",
            '    if (runs > 0) printf("%.6g ms of processor time a run\\n", 1e3 * seconds / (double)runs);',
            f'    puts(wrong ? "{name}: WRONG" : "{name}: right");',
            "    return wrong;",
            "}",
            "",
        ]
    )


def _check(facts: Signature, tensor: Tensor, number: int, expected: str) -> Sequence[str]:
    upper, size = macro(facts.name), ELEMENT_SIZE[tensor.element]
    count = f"{upper}_OUTPUT_{number}_BYTES / {size}"
    return [
        "    {",
        f"        double error = error_of(value_of_{tensor.element}, output_{number}, {expected}, {count});",
        f'        printf("outputs[{number}] is off by %.3g, at most %g is right\\n", error, {upper}_TOLERANCE);',
        f"        if (!(error <= {upper}_TOLERANCE)) wrong = 1;",
        "    }",
    ]
