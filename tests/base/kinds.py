"""Run inside a copy of the package: prints, for each edit of a copied file, which keys of stored results it changes.

Usage: kinds.py EDITS FOLDER, where EDITS is a JSON list of edits, each a list [files, definition, line to insert], and
FOLDER takes a model. The keys are those that the stages ask the store for; nothing is computed beyond what a key needs.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

import lrfdse
from lrfdse.base import keys
from lrfdse.base.store import Store
from lrfdse.board.result import BoardRun, KernelRun
from lrfdse.calibrate import session
from lrfdse.explore.identity import code_identity
from lrfdse.explore.inputs import DataRequest, Files, open_inputs
from lrfdse.explore.layers import fronts, latencies, spectra
from lrfdse.explore.layers.fits import FitRequest, Fits, data_key, open_builder
from lrfdse.explore.layers.found_fits import found_fits
from lrfdse.explore.plans import proxy
from lrfdse.explore.plans.assemble import plan_of
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.ir.latency import Latency
from lrfdse.ir.operators import Softmax
from lrfdse.ir.program import Call, Program, Value
from lrfdse.ir.space import Cost, Funnel
from lrfdse.library.compiling import compile_program
from lrfdse.library.remembered import known_measurement, measurement_key
from lrfdse.meters.host_meter import HostMeter
from lrfdse.meters.meter import open_meter
from lrfdse.quality.objective import OutputLoss
from lrfdse.repair import weightings
from lrfdse.repair.moments import moments
from lrfdse.results.exploration import LayerResult, MeasuredChoice
from lrfdse.results.settings import Data
from lrfdse.targets.catalog import load_search_space, load_target
from lrfdse.toolchain.programs import MODELLING, missing_tools

PACKAGE = Path(lrfdse.__file__).parent


class Asked(Exception):
    """The key that a stage asks the store for."""


class Asking(Store):
    """Knows nothing, and stops whoever asks for a result of the kind that is wanted."""

    wanted = ""

    def get(self, kind, key, read):
        if kind == Asking.wanted:
            raise Asked(key)

    get_arrays = get


def asked(kind, stage):
    Asking.wanted = kind
    try:
        stage()
    except Asked as key:
        return str(key)
    raise AssertionError(f"no {kind} was asked for")


def make_model(folder):
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "fc"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16])],
        [numpy_helper.from_array(weight, "fc")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")
    for role in ("calib", "eval"):
        np.savez(folder / f"{role}.npz", x=np.random.default_rng(1).standard_normal((8, 16)).astype(np.float32))


def stages(folder):
    """Return, by name, what asks for each kind of result."""
    data = Data(folder / "calib.npz", folder / "eval.npz")
    inputs = open_inputs(Files(folder / "model.onnx", data, folder / "cache"), DataRequest())
    store, target, space = Asking(folder), load_target("riscv64"), load_search_space("default")
    model, calib = inputs.model, inputs.calib
    layer, shape, latency = model.layers[0], Factorization.svd(16, 16, 4), Latency(1.0, 1.0, 1.0)
    seen, loss = moments(model, calib, [layer.name])[layer.name], (OutputLoss("y", "softmax"),)
    request = FitRequest("auto", correct=True, loss=loss)
    fitter = Fitter(model.weight(layer.name), seen, "auto", name=layer.name)

    def fits():
        key = weightings.weightings_key(model, calib, loss)
        return Fits({layer.name: fitter}, data_key(model, calib), store, key)

    def correct():
        known = found_fits(request, model, calib, [layer.name], {layer.name}, store)
        plan = plan_of({layer.name: str(shape)}, [result])
        corrections = open_builder(request, model, calib, known, store).corrections
        return corrections.factors(plan, {layer.name: fitted}, False)

    def predicted(kind):
        evaluator = SimpleNamespace(builder=SimpleNamespace(fits=fits()))
        return proxy.predicted_errors(kind, request, inputs, (result,), evaluator, store, silent)

    fitted = fitter.fit(shape)
    parts = (Cost.of(shape, 1, target.lanes), shape.params, 4 * shape.params, 0.5, 0.5, latency, latency, 0.0, ("",))
    options = (
        MeasuredChoice(Choice(Factorization.dense(16, 16)), *parts[:3], 0.0, 0.0, *parts[5:]),
        MeasuredChoice(Choice(shape), *parts),
    )
    result = LayerResult(layer, 1.0, 16.0, Funnel((), 0.0), options)
    spec = KernelSpec(16, 16, shape, 1, False, False)
    fake = SimpleNamespace(name="model", key=lambda: "meter")
    run = BoardRun("d", target.name, "1", 1, (KernelRun("fc", 0, spec, "", latency, latency, 0.0),), latency, {})

    def silent(*_):
        pass

    softmax = Program((Value("input", 4), Value("output", 4)), (Call(Softmax(1, 4), (0, 1)),), (), (), {})

    found = {
        "counts": lambda: fronts.funnel_of(layer, space, target, store),
        "fronts": lambda: fronts.prepare_spectra(layer, fits(), space, target, store, silent),
        "spectra": lambda: fronts.prepare_spectra(layer, fits(), space, target, store, silent),
        "spectrum of the weight": lambda: spectra.spectrum_of(layer, lambda: fitter.weight, store),
        "spectrum as the inputs see it": lambda: spectra.whitened_spectrum_of(layer, fits(), store),
        "spectrum of the inputs": lambda: spectra.inputs_spectrum_of(layer, fits(), store),
        "fits": lambda: fits().factors(layer, Choice(shape)),
        "screens": lambda: fits().screened(layer, Choice(shape)),
        "weightings": lambda: weightings.output_weightings(model, calib, [layer.name], loss, store),
        "corrections": correct,
        "kernels": lambda: latencies.measure_kernels([spec], latencies.KernelRequest(target, fake), store, silent),
        "operators": lambda: compile_program(softmax, "net", target, folder / "model.onnx", store, silent),
        "sensitivity by fidelity": lambda: predicted("fidelity"),
        "sensitivity by loss": lambda: predicted("loss"),
    }
    if not missing_tools(target, MODELLING):
        found["terms"] = lambda: session.record_of([run], target, store, silent)
        layout, origin = SimpleNamespace(steps=(), weights=b""), SimpleNamespace(sha256="")
        found["libraries"] = lambda: known_measurement(
            store, measurement_key(layout, origin, target, "net", {}, "model", weights_file=False), 0
        )
    return {name: lambda name=name, stage=stage: asked(name.split()[0], stage) for name, stage in found.items()}


def all_keys(made):
    keys.forget()
    found = {name: stage() for name, stage in made.items()}
    found["the study"] = code_identity()["code"]
    found["the host meter"] = keys.code_key(HostMeter).digest
    if not missing_tools(load_target("riscv64"), MODELLING):
        found["the model meter"] = open_meter("model", load_target("riscv64")).key()
    return found


def edited(text, name, line):
    """Return code with one more line, first in the definition of that (dotted) name, or at the end without a name."""
    if not name:
        return f"{text}\n{line}\n"
    body = ast.parse(text).body
    for part in name.split("."):
        place = next(node for node in body if getattr(node, "name", "") == part)
        body = place.body
    lines = text.splitlines()
    lines.insert(body[0].lineno - 1, " " * body[0].col_offset + line)
    return "\n".join(lines) + "\n"


def main():
    edits, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    make_model(folder)
    made = stages(folder)
    before, told = all_keys(made), []
    assert before == all_keys(made)
    for files, name, line in edits:
        kept = [(path, path.read_text()) for path in sorted(PACKAGE.parent.glob(files))]
        assert kept, files
        for path, text in kept:
            path.write_text(edited(text, name, line))
        after = all_keys(made)
        told.append(sorted(kind for kind in before if before[kind] != after[kind]))
        for path, text in kept:
            path.write_text(text)
    json.dump({"kinds": sorted(before), "changed": told}, sys.stdout)


if __name__ == "__main__":
    main()
