"""What an object file leaves to others: the symbols that it uses and does not define."""

from __future__ import annotations

import struct

_HEADER = {1: struct.Struct("<16xHHIIIIIHHHHHH"), 2: struct.Struct("<16xHHIQQQIHHHHHH")}
_SECTION = {1: struct.Struct("<IIIIIIIIII"), 2: struct.Struct("<IIQQQQIIQQ")}
_SYMBOL = {1: struct.Struct("<IIIBBH"), 2: struct.Struct("<IBBHQQ")}
_SYMTAB = 2
"""The type of a section that is a table of symbols (SHT_SYMTAB of the ELF specification)."""


def undefined_symbols(content: bytes) -> list[str]:
    """Return the names of undefined symbols of an ELF object, little-endian, of 32 or 64 bits; sorted.

    Raises
    ------
    ValueError
        It is no such object.
    """
    kind = content[4] if content[:4] == b"\x7fELF" and len(content) > 64 and content[5] == 1 else 0
    if kind not in _HEADER:
        raise ValueError("no ELF object of little-endian bytes")
    head = _HEADER[kind].unpack_from(content)
    start, size, count = head[5], head[10], head[11]
    sections = [_SECTION[kind].unpack_from(content, start + size * number) for number in range(count)]
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
