"""What every model format must do.

A plug-in's author writes::

    class TestMine(FormatContract):
        @pytest.fixture
        def file(self):
            return Path(__file__).with_name("model.mine")
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.errors import InputError
from lrfdse.formats import FORMATS, Format, format_of
from lrfdse.model.data import random_inputs
from lrfdse.model.graph import load_model


class FormatContract:
    """Tests of one format; a subclass gives the fixture `file`, a model with a fully-connected layer."""

    @pytest.fixture
    def file(self) -> Path:
        """Return a small model of this format, whose suffix is the format's name."""
        raise NotImplementedError("give the fixture `file`")

    @pytest.fixture
    def opened(self, file: Path) -> Format:
        """Return the format under test."""
        return FORMATS.get(file.suffix.removeprefix("."))

    def test_its_files_are_read_by_it(self, file: Path, opened: Format) -> None:
        """The suffix leads to the format, in capitals, too."""
        assert format_of(file) is opened
        assert format_of(file.with_suffix(file.suffix.upper())) is opened

    def test_a_model_is_valid_and_identified_by_what_was_read(self, file: Path, opened: Format, tmp_path: Path) -> None:
        """ONNX's checker accepts the model, no tensor lies outside, and a copy has the same digest."""
        model, digest = opened.read(file)
        onnx.checker.check_model(model)
        assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
        assert re.fullmatch("[0-9a-f]{64}", digest)
        copy = tmp_path / f"copy{file.suffix}"
        shutil.copy(file, copy)
        assert opened.read(copy)[1] == digest

    def test_what_is_written_computes_the_same(self, file: Path, opened: Format, tmp_path: Path) -> None:
        """A model that was written and read again has the same inputs and gives the same outputs."""
        written = tmp_path / f"written{file.suffix}"
        opened.write(opened.read(file)[0], written)
        before, after = load_model(file), load_model(written)
        assert [str(port) for port in before.inputs] == [str(port) for port in after.inputs]
        feeds = random_inputs(before.inputs, np.random.default_rng(0))
        for one, other in zip(*(_outputs(opened, path, feeds) for path in (file, written)), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("content", [b"", b"\x00nonsense" * 99, None], ids=["empty", "nonsense", "missing"])
    def test_what_is_no_model_is_refused_in_one_line(
        self, file: Path, opened: Format, tmp_path: Path, content: bytes | None
    ) -> None:
        """The message begins with the file, and is an `InputError`."""
        broken = tmp_path / f"broken{file.suffix}"
        if content is not None:
            broken.write_bytes(content)
        with pytest.raises(InputError) as caught:
            opened.read(broken)
        assert str(caught.value).startswith(str(broken))
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_cut_short_is_refused(self, file: Path, opened: Format, tmp_path: Path) -> None:
        """Half a file is no model."""
        half = tmp_path / f"half{file.suffix}"
        content = file.read_bytes()
        half.write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError):
            opened.read(half)


def _outputs(opened: Format, path: Path, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return what onnxruntime computes of a model, straight from what the format reads."""
    content = opened.read(path)[0].SerializeToString()
    session = load_onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))
