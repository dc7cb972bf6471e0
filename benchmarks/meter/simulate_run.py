"""Runs `program` of the current folder on rvsim; prints the cycles of both calls and leaves the image in `after`.

A program of its own, because a simulation may not end. Symbols are read from the ELF file.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path


def symbols(elf: bytes) -> dict[str, int]:
    """Return the symbols of a 64-bit little-endian ELF file and their addresses."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, table + i * size) for i in range(count)]
    found = {}
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != 2:
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, entry):
            name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", elf, at)
            end = elf.index(b"\0", names + name)
            found[elf[names + name : end].decode()] = value
    return found


def main(limit: int, size: int) -> None:
    """Simulate at most `limit` cycles; the image has `size` bytes."""
    from rvsim import Simulator

    elf = Path("program").read_bytes()
    at = symbols(elf)
    simulator = Simulator(json.loads(Path("machine.json").read_text()), elf_data=elf)
    simulator.run(limit=limit)
    cold, warm, state, cause, value = struct.unpack("<5Q", simulator.read_phys_bytes(at["result"], 40))
    Path("after").write_bytes(simulator.read_phys_bytes(at["image"], size))
    failed = {0: f"no end after {limit} cycles", 1: None, 2: f"trap {cause} ({value:#x})"}[state]
    print(json.dumps({"cycles": [cold, warm], "failed": failed}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
