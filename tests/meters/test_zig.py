"""Linking, the image file, and reading what the plugin wrote."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.errors import KernelError, ToolError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Schedule
from lrfdse.meters.image import Image
from lrfdse.meters.trace import parse
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain import zig


def _artifact(sizes):
    roles = ("input", "weight", "output", "work")
    arguments = tuple(Argument(role, role, size) for role, size in zip(roles, sizes, strict=True))
    spec = KernelSpec(1, 1, Factorization.dense(1, 1), 1, False, False)
    return Artifact(spec, Schedule(()), "riscv64", "kernel", arguments, b"", "")


@settings(max_examples=30, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 70)] * 4), seed=st.integers(0, 9))
def test_what_a_kernel_writes_to_its_output_is_found(tmp_path_factory, sizes, seed):
    """A stand-in for the harness: reads the header as C does, and writes through the offsets."""
    path = tmp_path_factory.mktemp("image") / "image"
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(size).astype(np.float32) for size in sizes[:2]]
    expected = rng.standard_normal(sizes[2])
    image = Image(_artifact(sizes), arrays, expected)
    image.write(path)
    content = bytearray(path.read_bytes())
    header = np.frombuffer(content[:256], dtype="<u8")
    assert header[1] == len(content)
    offsets = [int(offset) for offset in header[2:6]]
    assert all(offset % 64 == 0 for offset in offsets)
    for array, offset in zip(arrays, offsets[:2], strict=True):
        assert np.array_equal(np.frombuffer(content, "<f4", array.size, offset), array)
    with pytest.raises(KernelError, match="wrong output"):
        image.check(path)
    content[offsets[2] : offsets[2] + 4 * sizes[2]] = expected.astype("<f4").tobytes()
    content[offsets[3] : offsets[3] + 4 * sizes[3]] = bytes(4 * sizes[3])
    path.write_bytes(content)
    assert image.check(path) < 1e-6
    content[offsets[3] + 4 * sizes[3]] ^= 1
    path.write_bytes(content)
    with pytest.raises(KernelError, match="beyond argument work"):
        image.check(path)


def test_a_kernel_needs_one_output():
    artifact = _artifact((1, 1, 1, 1))
    without = dataclasses.replace(artifact, arguments=artifact.arguments[:2])
    with pytest.raises(ValueError, match="one output"):
        Image(without, [np.zeros(1, np.float32)] * 2, np.zeros(1))


def test_an_all_zero_reference_is_compared_absolutely(tmp_path):
    image = Image(_artifact((1, 1, 1, 1)), [np.zeros(1, np.float32)] * 2, np.zeros(1))
    image.write(tmp_path / "image")
    content = bytearray((tmp_path / "image").read_bytes())
    offset = int(np.frombuffer(content[:256], dtype="<u8")[4])
    content[offset : offset + 4] = bytes(4)
    (tmp_path / "image").write_bytes(content)
    assert image.check(tmp_path / "image") == 0


@pytest.mark.parametrize("name", ["riscv64", "aarch64", "armv7"])
def test_an_undefined_symbol_is_one_failed_kernel(name, compile_c, tmp_path):
    target = load_target(name)
    source = "float expf(float); void kernel(float *x, float *w, float *y) { y[0] = expf(x[0] + w[0]); }"
    artifact = compile_c(source, target, (1, 1, 1))
    with pytest.raises(KernelError, match="undefined symbol: expf"):
        zig.link(artifact, zig.harness(target, 3), tmp_path)


def test_a_trace_without_both_regions_is_refused():
    with pytest.raises(ToolError, match="regions, but a kernel has two"):
        parse('{"regions":[],"runs":[],"nest":[],"blocks":[]}')
