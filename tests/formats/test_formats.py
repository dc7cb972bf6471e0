"""Which format reads a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrfdse.errors import InputError
from lrfdse.formats import FORMATS, format_of
from lrfdse.formats.onnx import ONNX
from lrfdse.model.graph import load_model


class Wrapped:
    """ONNX behind a first line."""

    def read(self, path):
        if not path.read_bytes().startswith(b"wrapped\n"):
            raise InputError(f"{path}: not a wrapped model")
        inner = path.with_suffix(".inner")
        inner.write_bytes(path.read_bytes().removeprefix(b"wrapped\n"))
        return ONNX.read(inner)

    def write(self, model, path):
        path.write_bytes(b"wrapped\n" + model.SerializeToString())


@pytest.mark.parametrize("name", ["net.onnx", "NET.ONNX", "net", "net.bin"])
def test_a_file_of_any_unclaimed_suffix_is_onnx(name):
    assert format_of(Path(name)) is ONNX


def test_a_registered_format_reads_the_files_of_its_suffix(tmp_path):
    example = Path(__file__).parents[2] / "examples" / "lenet300-fashion" / "model.onnx"
    file = tmp_path / "model.Wrapped"
    Wrapped().write(ONNX.read(example)[0], file)
    with pytest.raises(InputError, match="not an ONNX model"):
        load_model(file)
    with FORMATS.register("wrapped", Wrapped()):
        found = load_model(file)
    assert [layer.digest for layer in found.layers] == [layer.digest for layer in load_model(example).layers]
