"""The whole path on a small model: every promise of the output, on the host and under QEMU."""

from __future__ import annotations

import csv
import json
import shutil

import jsonschema
import numpy as np
import onnx
import onnxruntime
import optuna
import pytest

from lrfdse.cli import run
from lrfdse.ir.factorization import Factorization
from lrfdse.results.schema import SCHEMA_FILE

pytestmark = pytest.mark.slow
"""Each of these runs an exploration of its own, or waits for one that the module shares."""


def explore(folder, target, output, space, cache, *more):
    options = [
        "--target",
        target,
        "--output",
        str(output),
        "--space",
        str(space),
        "--cache",
        str(cache),
        "--budget",
        "24",
    ]
    return run(["explore", str(folder), *options, "--keep", "2", *more])


@pytest.fixture(scope="module")
def explored(small_folder, small_space, shared_cache, tmp_path_factory):
    output = tmp_path_factory.mktemp("out put")
    assert explore(small_folder, "riscv64", output, small_space, shared_cache) == 0
    return output


@pytest.fixture(scope="module")
def document(explored):
    return json.loads((explored / "front.json").read_text())


@pytest.fixture(scope="module")
def lenient(small_folder, small_space, shared_cache, tmp_path_factory):
    """The output of an exploration in which compressed designs are within the limits, of a model of its own."""
    place = tmp_path_factory.mktemp("lenient")
    shutil.copytree(small_folder, place / "model")
    assert explore(place / "model", "riscv64", place / "out", small_space, shared_cache, "--max-drop", "60%") == 0
    return place / "out"


@pytest.mark.slow
def test_the_cache_option_moves_all_that_can_be_made_again(explored, shared_cache):
    assert {"built", "zig", "kernels", "fits", "fronts"} <= {path.name for path in shared_cache.iterdir()}


def costs(design):
    """Parameters, charged latency and score, each the better the lower."""
    return (
        design["params"],
        design["latency"][design["cache_regime"]]["us"],
        -design["eval_score"]["value"],
    )


def accuracy(model, data):
    session = onnxruntime.InferenceSession(str(model))
    return float((session.run(None, {"x": data["x"]})[0].argmax(axis=1) == data["labels"]).mean())


def test_front_json_holds_what_the_schema_promises(document, small_folder):
    assert document["schema_version"] == 2
    assert document["target"]["name"] == "riscv64"
    assert (document["meter"]["name"], document["meter"]["kind"]) == ("model", "modelled")
    assert {"lrfdse", "onnxruntime", "optuna"} <= set(document["versions"])
    assert [layer["name"] for layer in document["layers"]] == ["fc1", "fc2"]
    assert document["original"]["params"] == 32 * 48 + 32 + 6 * 32 + 6
    assert document["original"]["flops"] == 2 * (32 * 48 + 6 * 32)
    for design in (document["original"], *document["designs"]):
        assert set(design["plan"]) == {"fc1", "fc2"}
        for latency in design["latency"].values():
            assert 0 < latency["low_us"] <= latency["us"] <= latency["high_us"]
        assert design["latency"]["warm"]["us"] < design["latency"]["cold"]["us"]
        assert 0 <= design["test_score"]["value"] <= 1
    assert document["original"]["eval_score"]["value"] == 1.0
    assert sum(design["on_front"] for design in document["designs"]) >= 3


def test_files_are_of_the_published_schema(document):
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    # Nothing is written that the schema does not name.
    _closed(schema)
    jsonschema.Draft202012Validator(schema).validate(document)


def _closed(schema):
    """Allow no keys but those that are named, in place."""
    for part in (schema, *schema["$defs"].values()):
        part["additionalProperties"] = False


def test_bytes_and_both_latencies_of_a_design_are_those_of_its_layers(document):
    layers = {layer["name"]: layer for layer in document["layers"]}
    for design in (document["original"], *document["designs"], *document["dominated"]):
        parts = [
            next(o for o in layers[name]["options"] if (o["factorization"], o["storage"]) == tuple(choice.values()))
            for name, choice in design["plan"].items()
        ]
        assert design["weight_bytes"] == sum(part["weight_bytes"] for part in parts) == 4 * design["params"]
        for regime in ("warm", "cold"):
            for key, value in design["latency"][regime].items():
                assert value == pytest.approx(sum(part["latency"][regime][key] for part in parts), rel=1e-6)


def test_no_design_on_the_front_is_beaten(document):
    front = [d for d in document["designs"] if d["on_front"]]
    for d in document["designs"]:
        for other in front:
            better, mine = costs(other), costs(d)
            if d["on_front"] and better != mine:
                assert not all(a <= b for a, b in zip(better, mine, strict=True))


def test_no_design_is_on_the_front_for_a_latency_that_ties(document):
    resolution = document["meter"]["resolution"]
    error = document["meter"]["hardware_error"]
    assert 0.5 < error["low"] < 1 < error["high"] < 2
    assert resolution == pytest.approx((error["high"] / error["low"]) ** 0.5 - 1, rel=1e-4)
    front = [costs(d) for d in document["designs"] if d["on_front"]]
    for params, us, loss in front:
        for other, latency, lost in front:
            if (other, lost) != (params, loss) and other <= params and lost <= loss:
                assert latency > us * (1 + resolution)


def test_the_sensitivity_begins_with_what_the_meter_said_and_moves_as_bandwidth_does(lenient):
    document = json.loads((lenient / "front.json").read_text())
    designs = {d["id"]: d for d in (document["original"], *document["designs"])}
    cases = document["sensitivity"]
    as_it_is, half, twice, shared = ({d["id"]: d for d in case["designs"]} for case in cases)
    assert list(as_it_is)[:2] == [document["original"]["id"], document["recommended"]]
    for identity, design in as_it_is.items():
        for regime in ("warm", "cold"):
            meter = designs[identity]["latency"][regime]
            for key, value in design["latency"][regime].items():
                assert value == pytest.approx(meter[key], rel=1e-6)
            us = [case[identity]["latency"][regime]["us"] for case in (half, as_it_is, twice)]
            assert us == sorted(us, reverse=True)
            # A smaller cache moves no fewer lines.
            assert shared[identity]["latency"][regime]["us"] >= meter["us"] * (1 - 1e-6)
        assert half[identity]["latency"]["cold"]["us"] > twice[identity]["latency"]["cold"]["us"]
    for case in (as_it_is, half, twice, shared):
        before, after = (case[d]["latency"]["cold"]["us"] for d in list(case)[:2])
        assert case[document["recommended"]]["speed_up_cold"] == pytest.approx(before / after, rel=1e-3)


def test_the_kept_models_run_and_score_what_is_reported(document, explored, small_folder):
    kept = [d for d in document["designs"] if d["model"]]
    assert document["recommended"] in {d["id"] for d in kept if d["on_front"]}
    assert 1 <= len(kept) <= 3
    for design in kept:
        path = explored / design["model"]
        onnx.checker.check_model(onnx.load(path), full_check=True)
        for role in ("test", "eval"):
            score = accuracy(path, np.load(small_folder / f"{role}.npz"))
            assert score == pytest.approx(design[f"{role}_score"]["value"])


def test_kept_kernels_are_objects_with_headers_and_weights(document, explored):
    kernels = explored / "designs" / document["recommended"] / "kernels"
    for layer in ("fc1", "fc2"):
        assert (kernels / f"{layer}.o").read_bytes()[:4] == b"\x7fELF"
        assert f"lrf_{layer}" in (kernels / f"{layer}.h").read_text()
        assert (kernels / f"{layer}.weights.bin").stat().st_size > 0


def test_the_funnel_narrows(document):
    layer = document["layers"][0]
    counts = {stage["stage"]: stage["designs"] for stage in layer["funnel"]["stages"]}
    assert counts["compiled"] >= counts["measured"] >= counts["on the final front"]
    assert counts["measured"] == len(layer["options"]) - 1


def test_every_kernel_was_checked_against_its_reference(document):
    assert all(0 <= option["kernel_error"] <= 1e-4 for layer in document["layers"] for option in layer["options"])


def test_csv_and_log_agree_with_the_document(document, explored):
    rows = list(csv.DictReader((explored / "front.csv").open()))
    assert [row["id"] for row in rows] == [design["id"] for design in document["designs"]]
    stages = {json.loads(line)["stage"] for line in (explored / "log.jsonl").read_text().splitlines()}
    assert {"layers", "kernels", "fit", "plans", "write"} <= stages


def test_every_evaluated_plan_is_a_readable_trial(document, explored):
    url = f"sqlite:///{explored / 'study.db'}"
    study = optuna.load_study(study_name=optuna.get_all_study_names(url)[0], storage=url)
    done = [trial for trial in study.trials if trial.state.is_finished() and trial.values]
    assert len(done) >= document["evaluated"] - 1
    assert study.metric_names is not None
    assert all(set(trial.params) == {"fc1", "fc2"} for trial in done)
    assert any(trial.params == {"fc1": "dense", "fc2": "dense"} for trial in done)


@pytest.mark.slow
def test_the_same_command_again_gives_the_same_document(
    document, explored, small_folder, small_space, shared_cache, tmp_path
):
    assert explore(small_folder, "riscv64", explored, small_space, shared_cache) == 0
    again = json.loads((explored / "front.json").read_text())
    assert again == document
    fresh = tmp_path / "fresh"
    assert explore(small_folder, "riscv64", fresh, small_space, shared_cache) == 0
    elsewhere = json.loads((fresh / "front.json").read_text())
    assert [d["plan"] for d in elsewhere["designs"]] == [d["plan"] for d in document["designs"]]
    assert [d["latency"] for d in elsewhere["designs"]] == [d["latency"] for d in document["designs"]]


@pytest.mark.parametrize("part", ["designs", "dominated"])
def test_export_rebuilds_a_design_that_was_not_kept(part, explored, lenient, small_folder, capsys):
    explored = {"designs": explored, "dominated": lenient}[part]
    document = json.loads((explored / "front.json").read_text())
    left = next(d for d in document[part] if d["model"] is None)
    assert run(["export", str(explored), left["id"]]) == 0
    path = capsys.readouterr().out.strip()
    assert accuracy(path, np.load(small_folder / "test.npz")) == pytest.approx(left["test_score"]["value"])
    kept = next(d for d in document["designs"] if d["model"])
    before = (explored / kept["model"]).read_bytes()
    assert run(["export", str(explored), kept["id"]]) == 0
    assert (explored / kept["model"]).read_bytes() == before


def test_a_model_that_was_moved_is_named_and_the_beginning_of_an_id_is_enough(lenient, capsys):
    document = json.loads((lenient / "front.json").read_text())
    left = next(d for d in document["dominated"] if d["model"] is None)
    every = {d["id"] for d in (document["original"], *document["designs"], *document["dominated"])}
    short = next(s for k in range(1, 9) if sum(other.startswith(s := left["id"][:k]) for other in every) == 1)
    old, new = lenient.parent / "model", lenient.parent / "elsewhere"
    old.rename(new)
    try:
        assert run(["export", str(lenient), short]) == 2
        assert "was the folder moved? Say where the model lies now with --model" in capsys.readouterr().err
        assert run(["export", str(lenient), short, "--model", str(new)]) == 0
        assert capsys.readouterr().out.strip() == str(lenient / "designs" / left["id"] / "model.onnx")
        assert run(["export", str(lenient), left["id"], "--model", str(new / "model.onnx")]) == 2
        assert "with --calib" in capsys.readouterr().err
        (new / "other").mkdir()
        shutil.copy(new / "calib.npz", new / "other" / "model.onnx")
        assert run(["export", str(lenient), short, "--model", str(new / "other")]) == 2
    finally:
        new.rename(old)
    first = sorted(every)[0][0]
    if sum(other.startswith(first) for other in every) > 1:
        assert run(["export", str(lenient), first]) == 2
        assert "give more of the id" in capsys.readouterr().err


def test_a_rerun_leaves_what_was_exported(document, explored, small_folder, small_space, shared_cache, capsys):
    left = next(d for d in document["designs"] if d["model"] is None)["id"]
    assert run(["export", str(explored), left]) == 0
    assert explore(small_folder, "riscv64", explored, small_space, shared_cache) == 0
    assert (explored / "designs" / left / "model.onnx").is_file()


def test_export_refuses_another_model_and_unknown_designs(document, explored, small_folder, tmp_path, capsys):
    assert run(["export", str(explored), "nosuchid"]) == 2
    assert "no design 'nosuchid'" in capsys.readouterr().err
    copy = explored.parent / "copy"  # beside the original, because front.json names its inputs relative to itself
    shutil.copytree(explored, copy)
    changed = json.loads((copy / "front.json").read_text())
    changed["model"]["sha256"] = "0" * 64
    (copy / "front.json").write_text(json.dumps(changed))
    assert run(["export", str(copy), document["recommended"]]) == 2
    assert "not the model that was explored" in capsys.readouterr().err
    assert run(["export", str(tmp_path), "x"]) == 2


def test_limits_that_nothing_meets_end_with_code_3(explored, small_folder, small_space, shared_cache, tmp_path, capsys):
    code = explore(
        small_folder, "riscv64", tmp_path, small_space, shared_cache, "--max-drop", "0", "--max-params", "200"
    )
    assert code == 3
    assert "No design satisfies the limits" in capsys.readouterr().err


def test_json_output_is_the_document(explored, small_folder, small_space, shared_cache, capsys):
    assert explore(small_folder, "riscv64", explored, small_space, shared_cache, "--json") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((explored / "front.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["host", "aarch64", "riscv64-u74"])
def test_other_targets(target, small_folder, small_space, shared_cache, tmp_path):
    assert explore(small_folder, target, tmp_path, small_space, shared_cache, "--no-library", "--no-int8") == 0
    document = json.loads((tmp_path / "front.json").read_text())
    expected = ("host", "measured") if target == "host" else ("model", "modelled")
    assert (document["meter"]["name"], document["meter"]["kind"]) == expected


@pytest.mark.slow
def test_evaluation_data_alone_is_split(small_folder, small_space, shared_cache, tmp_path, capsys):
    model, data = small_folder / "model.onnx", small_folder / "eval.npz"
    assert explore(model, "riscv64", tmp_path, small_space, shared_cache, "--eval", str(data)) == 0
    assert "one half of the evaluation data chose" in " ".join(capsys.readouterr().out.split())


def test_inspect_counts_without_compiling(small_folder, small_space, tmp_path, capsys):
    assert (
        run(["inspect", str(small_folder), "--space", str(small_space), "--cache", str(tmp_path / "c"), "--json"]) == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in document["layers"]] == ["fc1", "fc2"]
    stages = [stage["stage"] for stage in document["layers"][0]["funnel"]["stages"]]
    assert "compiled" not in stages
    assert not (tmp_path / "c" / "kernels").exists()


@pytest.mark.slow
def test_padding_offers_designs_of_smooth_sizes(shared_cache, tmp_path):
    """11 and 13 have no divisors: with padding there are tensor trains of 12 x 14."""
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((11, 1)) @ rng.standard_normal((1, 13))
    weight = (weight + 0.1 * rng.standard_normal((11, 13))).astype(np.float32)
    text = "agraph (float[n, 13] x) => (float[n, 11] y) <float[13, 11] w = {VALUES}> { y = MatMul(x, w) }"
    values = ", ".join(f"{float(value)!r}" for value in weight.T.ravel())
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text.replace("VALUES", values)}')
    onnx.save(model, tmp_path / "prime.onnx")
    (tmp_path / "pad.toml").write_text("max_cores = 2\nmin_size = 8\npad_to_smooth = true\nmin_ratio = 1.5\n")
    output = tmp_path / "out"
    assert explore(tmp_path / "prime.onnx", "riscv64", output, tmp_path / "pad.toml", shared_cache) == 3
    document = json.loads((output / "front.json").read_text())
    texts = [option["factorization"] for option in document["layers"][0]["options"]]
    padded = [f for f in (Factorization.parse(text, 11, 13) for text in texts) if f.outputs > 11 or f.inputs > 13]
    assert padded
    chosen = next(d for d in document["designs"] if d["plan"]["w"]["factorization"] != "dense")
    assert run(["export", str(output), chosen["id"]]) == 0
    session = onnxruntime.InferenceSession(str(output / "designs" / chosen["id"] / "model.onnx"))
    assert session.run(None, {"x": np.ones((3, 13), np.float32)})[0].shape == (3, 11)
