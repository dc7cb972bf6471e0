"""What the page of questions says of kernels is what its code prints."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import MODELLING, missing_tools

PAGE = Path(__file__).parents[2] / "docs" / "questions.md"


@pytest.mark.slow
@pytest.mark.skipif(
    bool(missing_tools(load_target("riscv64"), MODELLING)), reason="zig, QEMU or LLVM 22 is not installed"
)
def test_the_layer_of_others_takes_what_the_page_says():
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    rows = re.findall(
        r"^\| `(.*?)` \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) us \| ([\d.]+) us \|$", text, flags=re.MULTILINE
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, str(PAGE), "exec"), {})
    told = re.findall(
        r"^(\S+) +([\d,]+) weights +([\d,]+) FLOPs +([\d.]+) us warm +([\d.]+) us cold, modelled$",
        printed.getvalue(),
        flags=re.MULTILINE,
    )
    assert told == rows and len(rows) == 3
