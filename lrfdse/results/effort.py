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
    plain: bool = False
    """Whether products are factorized by SVD alone, in closed form: no spectra, no fronts, no trains."""
    most_kept: int | None = None
    """Designs written beside the recommended one at most, if the user keeps more; None leaves that to the user."""
    small_steps: float = 0.0
    """MACs that small steps of a refined design may take behind its Gauss-Newton steps; 0 takes none."""
    least_run: int = 32
    """Samples at least that a layer's designs are run on to tell what its errors cost; small models run more."""
    int8_of_all: bool = True
    """Whether the int8 form is made of every design that is written, and by onnxruntime's quantizer as well, or only of
    the recommended one and the original."""
    left_out: tuple[str, ...] = ()
    """Notes on what was left out, for the reader of the results."""
    large: Effort | None = None
    """What is taken in its place where the explored layers have `LARGE` weights; None is the same."""


LARGE = 4_000_000
"""Weights of all explored layers from which an effort may leave out more. Chosen: the two layers of README's example
have 0.3 million, a small sentence encoder 22 million, and its layers alone took twice the three minutes that quick is
to take with what quick leaves out of small models."""

_QUICK = "--effort quick: {}, no refinement: --effort normal finds better designs"

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
            _QUICK.format(
                "trains of at most 3 cores, at most 12 designs of a layer beside SVD, 20 plans, one schedule a kernel"
            ),
        ),
        large=Effort(
            tries=1,
            screened=0,
            refined=0,
            probed=2,
            most_compiled=6,
            most_cores=2,
            most_plans=12,
            plain=True,
            most_kept=2,
            least_run=12,
            int8_of_all=False,
            left_out=(
                _QUICK.format(
                    "the model is large, so SVD at 9 ratios alone and no trains, at most 6 designs of a convolution or "
                    "an embedding, 12 plans, one schedule a kernel, losses of layers on 12 samples, 2 designs written "
                    "beside the recommended one, int8 forms of that and the original alone, none by onnxruntime"
                ),
            ),
        ),
    ),
    "normal": Effort(tries=2, screened=3, refined=4),
    "thorough": Effort(tries=4, screened=6, refined=8, small_steps=3e12),
}
"""The efforts by name. The second schedule of a kernel gained 1.6 % in the mean over 13 kernels of a 300x784 layer on
`riscv64`, the third and fourth together 0.8 % more. Fronts of 384x384 and 1536x384 layers take 5.5 processor seconds in
the mean with trains of up to 4 cores, 1.8 with up to 3, and counting all designs 4.6 and 0.04. `3e12` MACs of small
steps take some five minutes of one core a design; docs/method.md, section 9, has what they gain."""


def effort_for(name: str, weights: int) -> Effort:
    """Return the effort of a name for a model whose explored layers have so many weights.

    >>> effort_for("quick", 300_000).most_cores, effort_for("quick", LARGE).most_cores
    (3, 2)
    >>> effort_for("normal", LARGE) == EFFORTS["normal"]
    True
    """
    found = EFFORTS[name]
    return found.large if found.large is not None and weights >= LARGE else found


def check_effort(name: str) -> None:
    """Raise `InputError` where there is no such effort."""
    if name not in EFFORTS:
        raise InputError(f"--effort takes {', '.join(EFFORTS)}, but got {name!r}")
