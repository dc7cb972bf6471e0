from __future__ import annotations

import numpy as np
import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Artifact, KernelSpec
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example, pack, reference
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target

TARGET = load_target("host")


def compiled(f: Factorization, outputs: int, inputs: int, bias: bool = True) -> Artifact:
    spec = KernelSpec(outputs, inputs, f, 3, bias, False)
    return compile_kernel(spec, schedules(spec, TARGET, 1)[0], TARGET, "kernel")


@pytest.mark.parametrize("direction", ["rl", "lr"])
@pytest.mark.parametrize("limit", [0, 10**9])
def test_the_reference_is_the_chain(kit, direction, limit) -> None:
    """Both ways to compute the reference agree with the chain of steps."""
    f = Factorization((2, 3, 4), (3, 5, 2), (4, 3), direction)
    rng = np.random.default_rng(0)
    cores = [rng.standard_normal(shape) for shape in f.core_shapes]
    x = rng.standard_normal((3, 29))
    padded = np.concatenate([x, np.zeros((3, 1))], axis=1)
    found = reference(KernelSpec(23, 29, f, 3, False, False), x, cores, None, dense_limit=limit)
    np.testing.assert_allclose(found, kit.by_steps(f, cores, padded)[:, :23], rtol=1e-12)


def test_examples_repeat_with_their_seed_and_match_their_arguments() -> None:
    artifact = compiled(Factorization.svd(30, 40, 7), 30, 40)
    arrays, expected = example(artifact, 5)
    again, same = example(artifact, 5)
    other, _ = example(artifact, 6)
    assert expected.shape == (3, 30)
    assert np.array_equal(expected, same)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))
    assert not np.array_equal(arrays[0], other[0])
    roles = [a for a in artifact.arguments if a.role in ("input", "weight", "bias")]
    assert [a.size for a in arrays] == [a.size for a in roles]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}


def test_packing_keeps_every_weight() -> None:
    artifact = compiled(Factorization.svd(30, 40, 7), 30, 40)
    cores = [np.arange(1.0, 1 + np.prod(s)).reshape(s) for s in artifact.spec.factorization.core_shapes]
    packed = pack(artifact, cores, np.arange(30.0))
    for core, array in zip(cores, packed, strict=False):
        assert set(core.ravel()) <= set(array.tolist()) <= set(core.ravel()) | {0.0}
    np.testing.assert_array_equal(packed[-1], np.arange(30.0, dtype=np.float32))


def test_arrays_that_do_not_fit_are_refused() -> None:
    artifact = compiled(Factorization.svd(30, 40, 7), 30, 40)
    cores = [np.zeros(s) for s in artifact.spec.factorization.core_shapes]
    with pytest.raises(ValueError, match="cores of shapes"):
        pack(artifact, cores[::-1], np.zeros(30))
    with pytest.raises(ValueError, match="bias of shape"):
        pack(artifact, cores, None)
    with pytest.raises(ValueError, match="bias of shape"):
        pack(artifact, cores, np.zeros(29))
    plain = compiled(Factorization.svd(30, 40, 7), 30, 40, bias=False)
    with pytest.raises(ValueError, match="no bias"):
        pack(plain, cores, np.zeros(30))
