"""Designs as rows of a table that programs read: ``front.csv``, and data frames of pandas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.results.roles import role_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas

    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document

Cell = str | int | float | bool | None

_MAY_BE_UNKNOWN = (
    *("warm_us", "cold_us", "model_us", "model_estimated_us", "accuracy", "eval_accuracy", "fidelity", "output_error"),
    "others_kept",
    *("int8_bytes", "int8_accuracy", "int8_eval_accuracy"),
)


def design_row(design: DesignFacts, document: Document) -> dict[str, Cell]:
    """Return what a design costs and scores, by column; None where nobody measured it."""
    charged, warm, cold = design.charged, design.latency.warm, design.latency.cold
    whole, estimated = design.whole_model.latency.warm, design.whole_model.estimated
    tested, chosen, int8 = design.test_score, design.eval_score, design.int8
    # A table that travels alone cannot say that scores are of random inputs.
    hidden = not document.verified
    return {
        "id": design.id,
        "params": design.params,
        "weight_bytes": design.weight_bytes,
        "flops": design.flops,
        "latency_us": charged.us,
        "latency_low_us": charged.low_us,
        "latency_high_us": charged.high_us,
        "warm_us": None if warm is None else warm.us,
        "cold_us": None if cold is None else cold.us,
        "model_us": None if whole is None else whole.us,
        "model_estimated_us": None if estimated is None else estimated.us,
        "accuracy": None if tested is None else tested.value,
        "eval_accuracy": None if chosen is None or hidden or document.metric == "fidelity" else chosen.value,
        "fidelity": None if hidden else design.fidelity,
        "output_error": design.output_error,
        "others_kept": None if hidden or not design.others else min(design.others.values()),
        "int8_bytes": None if int8 is None else int8.int8_bytes,
        "int8_accuracy": None if int8 is None or int8.test_score is None else int8.test_score.value,
        "int8_eval_accuracy": None if int8 is None or int8.eval_score is None else int8.eval_score.value,
        "origin": design.origin,
        "on_front": design.on_front,
    }


def design_frame(designs: Iterable[DesignFacts], document: Document) -> pandas.DataFrame:
    """Return designs as a data frame: the columns of `design_row`, what a design is, and a column a layer.

    The index is the design's id. Layers may be called anything, so their columns begin with "plan.".

    Raises
    ------
    ImportError
        pandas is not installed; the message says how to install it.
    """
    try:
        import pandas
    except ImportError as error:
        raise ImportError("a data frame needs pandas: pip install pandas") from error

    names = [layer.name for layer in document.layers]
    rows = [
        {
            **design_row(design, document),
            "role": role_of(design, document),
            **{f"plan.{name}": str(design.plan[name]) for name in names},
        }
        for design in designs
    ]
    # Where nobody measured any, pandas would not take a column for one of numbers.
    return pandas.DataFrame(rows).set_index("id").astype(dict.fromkeys(_MAY_BE_UNKNOWN, float))
