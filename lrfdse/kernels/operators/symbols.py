"""Symbols of object files."""

from __future__ import annotations

import struct


def undefined(data: bytes) -> list[str]:
    """Return the undefined symbols of an ELF file."""
    wide = data[4] == 2
    offset = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)[0]
    size, count = struct.unpack_from("<HH", data, 58 if wide else 46)
    form = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
    heads = [struct.unpack_from(form, data, offset + i * size) for i in range(count)]
    found: list[str] = []
    for head in heads:
        if head[1] != 2:
            continue
        names = heads[head[6]][4]
        for place in range(head[4], head[4] + head[5], head[9]):
            name = struct.unpack_from("<I", data, place)[0]
            section = struct.unpack_from("<H", data, place + (6 if wide else 14))[0]
            if name and not section:
                found.append(data[names + name : data.index(b"\0", names + name)].decode())
    return found
