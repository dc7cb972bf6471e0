"""A plan, one factorization for each layer, and the design that it makes of the whole model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from lrfdse.ir.choice import Choice
from lrfdse.ir.latency import Latency, Regime
from lrfdse.ir.storage import words_of

Metric = str
"""What designs are chosen by: "accuracy" (top-1), "fidelity", another metric's name, or the user's module:function."""


DENSE_INT8 = "dense-int8"
"""Origin of the plan that stores every layer it can in int8 and factorizes none: a baseline."""

DENSE_QDQ = "dense-qdq"
"""Origin of the one that also rounds what these layers read."""

DENSE_FP16 = "dense-fp16"
"""Origin of the one that stores them as float16."""

DENSE_STORED = {DENSE_INT8: "dense int8", DENSE_QDQ: "dense qdq", DENSE_FP16: "dense fp16"}
"""What the baselines of one storage are called, by their origin."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One choice for every layer of a model, by layer name; the layers that are left out stay as they are."""

    choices: tuple[tuple[str, Choice], ...]
    _by_layer: Mapping[str, Choice] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_layer", dict(self.choices))

    def __getitem__(self, layer: str) -> Choice:
        return self._by_layer[layer]

    def texts(self) -> dict[str, str]:
        """Return layer name to the text of its choice."""
        return {name: str(choice) for name, choice in self.choices}

    @property
    def is_original(self) -> bool:
        """Whether every layer stays as it is."""
        return all(choice.is_original for _, choice in self.choices)


@dataclass(frozen=True, slots=True)
class Design:
    """A plan with everything that was found out about it."""

    id: str
    plan: Plan
    params: int
    """Stored elements of the layers, biases included."""
    bytes: int
    """Bytes that these take."""
    flops: int
    latency: Latency
    regime: Regime
    eval_accuracy: float | None
    """The metric's score on the data that chooses, a fraction; None where the metric is fidelity."""
    accuracy: float | None
    """The metric's score on the test data, which chooses nothing; a fraction."""
    fidelity: float
    """Agreement with the original model; a fraction."""
    standard_error: float
    """Standard error of the score drop on the evaluation data (fraction)."""
    origin: str
    """What proposed the plan: "dense", one of `DENSE_STORED`, "uniform-svd", "knapsack" or the sampler's name."""
    refined: bool = False
    """Whether the scores are of refined factors, see `lrfdse.repair.builder.Builder.factors`."""
    eval_interval: tuple[float, float] | None = None
    """95 % interval of the score on the data that choose; None where the metric gives no value a sample."""
    accuracy_interval: tuple[float, float] | None = None
    """95 % interval of `accuracy`."""
    accuracy_error: float | None = None
    """Standard error of the score drop against the original model, on the test data; a fraction."""
    output_error: float | None = None
    """Relative error of the judged output on the data that choose (random inputs where none were given), in Frobenius
    norm; None where that output is whole numbers or not finite."""
    others: Mapping[str, float] = field(default_factory=dict)
    """How far the other outputs that count agree with the original model's, by name: a share of equal decisions, R² or
    a cosine."""
    others_error: Mapping[str, float] = field(default_factory=dict)
    """Standard error of what each of them keeps, by name."""

    @property
    def least_kept(self) -> float:
        """What the worst of the other outputs keeps of the original model's; 1 where no other counts."""
        return min(self.others.values(), default=1.0)

    @property
    def words(self) -> int:
        """Float32 numbers that take as many bytes: what designs are compared by."""
        return words_of(self.bytes)

    def score(self, metric: Metric) -> float:
        """Return the score on the data that choose: `fidelity` where that is the metric, else `eval_accuracy`.

        Raises
        ------
        ValueError
            The metric needs labels, but the design was scored without.
        """
        value = self.fidelity if metric == "fidelity" else self.eval_accuracy
        if value is None:
            raise ValueError(f"design {self.id} has no score by {metric}: it was scored without labels")
        return value


def plan_id(plan: Plan) -> str:
    """Return the plan's short name; it depends on the layers' factorizations alone."""
    text = "\n".join(f"{layer}={text}" for layer, text in sorted(plan.texts().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]
