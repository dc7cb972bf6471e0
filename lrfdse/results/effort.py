"""How much work an exploration puts into its answer, and what each degree of it leaves out."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.errors import InputError


@dataclass(frozen=True, slots=True)
class Effort:
    """What the stages of an exploration may spend; all of it is chosen, not tuned."""

    tries: int
    """Schedules measured for each kernel, the one of the best estimate first."""
    screened: int
    """Candidates of a small layer that are shortly fitted for each one that is compiled."""
    refined: int
    """Designs refined by the whole model's outputs before one is recommended; 0 leaves refinement out."""
    probed: int = 4
    """Designs of each layer that are run in the model to tell what the layer's errors cost it."""
    most_compiled: int | None = None
    """Designs of one layer that are compiled at most, if the search space allows more; None leaves that to the space.
    """
    most_cores: int | None = None
    """Cores of a train at most, if the search space allows more; None leaves that to the space."""
    most_plans: int | None = None
    """Plans evaluated at most, if the budget is larger; None leaves that to the budget."""
    left_out: tuple[str, ...] = ()
    """Notes on what was left out, for the reader of the results."""


EFFORTS = {
    "quick": Effort(
        tries=1,
        screened=1,
        refined=0,
        probed=2,
        most_compiled=12,
        most_cores=3,
        most_plans=20,
        left_out=(
            "--effort quick: trains of at most 3 cores, at most 12 designs of a layer beside SVD, 20 plans, one "
            "schedule a kernel, no refinement: --effort normal finds better designs",
        ),
    ),
    "normal": Effort(tries=2, screened=3, refined=4),
    "thorough": Effort(tries=4, screened=6, refined=8),
}
"""The efforts by name. The second schedule of a kernel gained 1.6 % in the mean over 13 kernels of a 300x784 layer on
`riscv64`, the third and fourth together 0.8 % more. Fronts of 384x384 and 1536x384 layers take 5.5 processor seconds in
the mean with trains of up to 4 cores, 1.8 with up to 3, and counting all designs 4.6 and 0.04."""


def check_effort(name: str) -> None:
    """Raise `InputError` where there is no such effort."""
    if name not in EFFORTS:
        raise InputError(f"--effort takes {', '.join(EFFORTS)}, but got {name!r}")
