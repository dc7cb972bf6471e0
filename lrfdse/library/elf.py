"""What an object file holds: the symbols that it leaves to others, and the bytes that a program loads of it."""

from __future__ import annotations

import struct

_HEADER = {1: struct.Struct("<16xHHIIIIIHHHHHH"), 2: struct.Struct("<16xHHIQQQIHHHHHH")}
_SECTION = {1: struct.Struct("<IIIIIIIIII"), 2: struct.Struct("<IIQQQQIIQQ")}
_SYMBOL = {1: struct.Struct("<IIIBBH"), 2: struct.Struct("<IBBHQQ")}
_SYMTAB, _NOBITS = 2, 8
"""Types of sections: a table of symbols, and one without content in the file (SHT_ of the ELF specification)."""
_ALLOC = 2
"""The flag of a section that is in memory while a program runs (SHF_ALLOC)."""


def undefined_symbols(content: bytes) -> list[str]:
    """Return the names of undefined symbols of an ELF object, little-endian, of 32 or 64 bits; sorted.

    Raises
    ------
    ValueError
        It is no such object.
    """
    kind, sections = _sections(content)
    names = set()
    for section in sections:
        if section[1] != _SYMTAB:
            continue
        texts = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], _SYMBOL[kind].size):
            symbol = _SYMBOL[kind].unpack_from(content, at)
            place = symbol[5] if kind == 1 else symbol[3]
            begin = texts + symbol[0]
            if symbol[0] and place == 0:
                names.add(content[begin : content.index(b"\0", begin)].decode("ascii", "replace"))
    return sorted(names)


def loaded_bytes(content: bytes) -> int:
    """Return the bytes of code and constant data that a program loads of an object; `undefined_symbols` says of which.

    Tables that a program does not load, and memory that begins as zeros, do not count.
    """
    _, sections = _sections(content)
    return sum(section[5] for section in sections if section[2] & _ALLOC and section[1] != _NOBITS)


def _sections(content: bytes) -> tuple[int, list[tuple[int, ...]]]:
    kind = content[4] if content[:4] == b"\x7fELF" and len(content) > 64 and content[5] == 1 else 0
    if kind not in _HEADER:
        raise ValueError("no ELF object of little-endian bytes")
    head = _HEADER[kind].unpack_from(content)
    start, size, count = head[5], head[10], head[11]
    if start + size * count > len(content):
        raise ValueError("an ELF object that was cut short")
    return kind, [_SECTION[kind].unpack_from(content, start + size * number) for number in range(count)]
