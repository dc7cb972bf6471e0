"""The original and the designs that are written out with their weights as int8: bytes, scores, and a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfdse.errors import InputError, PlanError
from lrfdse.results.designs import Int8Facts, Score
from lrfdse.results.write import score_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.ir.factors import Factors
    from lrfdse.model.data import Dataset
    from lrfdse.model.runtime import Runtime


def int8_form(version: ir.Model, calib: Dataset | None, runtime: Runtime | None = None) -> tuple[ir.Model | None, str]:
    """Return a version with int8 weights, None where nothing gets smaller, and a note, "" where there is none.

    Weights are rounded against the calibration data. Without any, and where the version cannot be run on them, which
    the note then says, they are rounded to nearest.

    Parameters
    ----------
    version
        The original or a rewritten model.
    calib
        The calibration data, or None.
    runtime
        What runs the version; one of this call's own by default.
    """
    from lrfdse.repair.int8 import int8_version

    try:
        return int8_version(version, calib, runtime), ""
    except InputError as error:
        return int8_version(version, None), f"int8 weights are rounded to nearest: {error}"


def int8_file(version: ir.Model, calib: Dataset | None) -> bytes | None:
    """Return the file of a version with int8 weights, or None where nothing gets smaller; see `int8_form`."""
    from lrfdse.formats.onnx import file_content

    form, _ = int8_form(version, calib)
    return None if form is None else file_content(form)


class Int8Forms:
    """Makes the int8 forms of designs one by one, and remembers what was found of them.

    Parameters
    ----------
    inputs
        The model and its data. Weights are rounded against the calibration data, where there are some, else to nearest.
    evaluator
        Scores forms on the user's evaluation data, where there are some.
    """

    def __init__(self, inputs: Inputs, evaluator: Evaluator) -> None:
        from lrfdse.model.runtime import Runtime

        self._inputs, self._evaluator = inputs, evaluator
        # A form is seen once.
        self._runtime = Runtime(sessions=1)
        self.facts: dict[str, Int8Facts] = {}
        """What was found, by the id of the design."""
        self.baseline: Int8Facts | None = None
        """What onnxruntime's quantizer makes of the original; None before `add_baselines`, and where it makes none."""
        self.notes: list[str] = []
        """What the reader must know about these forms."""

    def made(self, identity: str, factors: Mapping[str, Factors]) -> bytes | None:
        """Return the file of a design with its weights as int8, and keep its facts; None where nothing gets smaller.

        Parameters
        ----------
        identity
            The design's id.
        factors
            The factors of its compressed layers.
        """
        from lrfdse.formats.onnx import file_content, serialized
        from lrfdse.model.passes.factor import rewrite

        version = rewrite(self._inputs.model, factors)
        form, note = int8_form(version, self._inputs.calib, self._runtime)
        if note and note not in self.notes:
            self.notes.append(note)
        if form is None:
            return None
        content = file_content(form)
        chosen, reported = self._scores(form, identity)
        self.facts[identity] = Int8Facts(
            float_bytes=len(serialized(version)), int8_bytes=len(content), eval_score=chosen, test_score=reported
        )
        return content

    def add_baselines(self, original: str, quantizer: bool = True) -> None:
        """Make the original's own int8 form, unless that was done, and the one of onnxruntime's quantizer.

        The quantizer needs calibration data. Where it cannot take the model, a note says why.

        Parameters
        ----------
        original
            The id of the original.
        quantizer
            Whether the form of onnxruntime's quantizer is wanted: it runs sample by sample, with all values kept.
        """
        if original not in self.facts and self.made(original, {}) is None:
            self.notes.append("no int8 form: no product has float32 weights that int8 makes smaller in the file")
            return
        model, calib = self._inputs.model, self._inputs.calib
        if calib is None or not quantizer:
            return
        import onnx

        from lrfdse.formats.onnx import parsed
        from lrfdse.model.static_int8 import static_int8

        try:
            layout = self._runtime.layout(self._runtime.session(model.original), calib, 64)
            content = static_int8(model, calib, layout)
        except InputError as error:
            self.notes.append(str(error))
            return
        chosen, reported = self._scores(parsed(onnx.ModelProto.FromString(content)), "of onnxruntime")
        self.baseline = Int8Facts(
            float_bytes=self.facts[original].float_bytes,
            int8_bytes=len(content),
            eval_score=chosen,
            test_score=reported,
        )

    def _scores(self, form: ir.Model, name: str) -> tuple[Score | None, Score | None]:
        """Return the scores on the data that choose and on those that report; None of what cannot be said."""
        if not self._inputs.verified:
            return None, None
        try:
            found = self._evaluator.scores_of(form)
        except PlanError as error:
            self.notes.append(f"the int8 form {name} has no score: {error}")
            return None, None
        value = found.fidelity if found.eval_accuracy is None else found.eval_accuracy
        chosen = score_of(value, found.eval_interval, found.standard_error)
        if found.accuracy is None:
            return chosen, None
        return chosen, score_of(found.accuracy, found.accuracy_interval, found.accuracy_error)
