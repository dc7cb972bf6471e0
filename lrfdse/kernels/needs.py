"""The C function beside a kernel that asks the machine whether it has what the kernel needs."""

from __future__ import annotations

from lrfdse.targets.target import Target


def supported_name(symbol: str) -> str:
    """Return the name of the C function that tells whether a machine can run the kernel `symbol`."""
    return f"{symbol}_supported"


def supported_function(target: Target, symbol: str) -> list[str]:
    """Return the lines of a C function that asks the machine; ``static inline``, for C99 and C++, without any library.

    The function is called `supported_name` of the symbol. It returns 1 where the machine has what the kernel needs, 0
    where not, and 0 where it is compiled for another instruction set.
    """
    needs = target.needs
    return [
        *needs.guard,
        f"static inline int {supported_name(symbol)}(void)",
        "{",
        f"#if {needs.macro}",
        *(line if line.startswith("#") else f"    {line}" for line in needs.body),
        "#else",
        "    return 0;",
        "#endif",
        "}",
    ]
