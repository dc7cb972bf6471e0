"""TT-matrices of the T3F library (Novikov et al. 2020) to factorizations and back, through the `t3f` extra.

Nothing in lrfdse calls it: it is for who brings trains from T3F, or takes ours there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import ToolError
from lrfdse.ir.factorization import Factorization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrfdse.ir.factorization import Array, Direction


def from_t3f(train: Any, direction: Direction = "rl") -> tuple[Factorization, tuple[Array, ...]]:
    """Return the factorization of a TT-matrix and its cores.

    T3F's cores have our axes, ``(r_{k-1}, m_k, n_k, r_k)``, and its indices our order.

    Parameters
    ----------
    train
        A `t3f.TensorTrain` that is a TT-matrix.
    direction
        The direction of contraction; T3F itself contracts right to left.

    Returns
    -------
    tuple
        The factorization, and its cores in float64.

    Raises
    ------
    ValueError
        It is a TT-tensor, whose cores have three axes, or a batch.
    """
    cores = tuple(np.asarray(core, dtype=np.float64) for core in train.tt_cores)
    if any(core.ndim != 4 for core in cores):
        raise ValueError(f"not a TT-matrix: its cores need 4 axes, but have shapes {[core.shape for core in cores]}")
    modes = tuple(core.shape[1] for core in cores), tuple(core.shape[2] for core in cores)
    return Factorization(*modes, tuple(core.shape[3] for core in cores[:-1]), direction), cores


def to_t3f(cores: Sequence[Array], dtype: str = "float32") -> Any:
    """Return the TT-matrix of cores ``(r_{k-1}, m_k, n_k, r_k)``, in `dtype`.

    Raises
    ------
    ToolError
        T3F is not installed.
    """
    try:
        t3f, tensorflow = importlib.import_module("t3f"), importlib.import_module("tensorflow")
    except ModuleNotFoundError as error:
        raise ToolError(f"{error.name} is not installed: pip install 'lrfdse[t3f]'") from error
    return t3f.TensorTrain([tensorflow.constant(np.asarray(core), dtype=dtype) for core in cores])
