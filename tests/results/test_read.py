"""The one reader: today's files and those of version 1, and one sentence for everything else."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.base.codec import to_plain
from lrfdse.errors import InputError
from lrfdse.results.document import Document
from lrfdse.results.read import document_of_plain, parse_document, read_document
from lrfdse.results.schema import document_schema
from lrfdse.results.write import json_of, write_document


def test_files_of_version_1_say_the_same_as_before(old):
    raw, found = json.loads(old.read_text()), read_document(old)
    entries = {entry["id"]: entry for part in ("designs", "dominated") for entry in raw.get(part, ())}
    entries[raw["baseline"]["id"]] = raw["baseline"]
    designs = {design.id: design for design in found.every_design()}
    assert designs.keys() == entries.keys()
    for identity, entry in entries.items():
        design = designs[identity]
        assert (design.params, design.flops, design.origin) == (entry["params"], entry["flops"], entry["origin"])
        charged = design.charged
        assert [charged.us, charged.low_us, charged.high_us] == [
            entry[f"latency_{end}us"] for end in ("", "low_", "high_")
        ]
        assert {name: choice.factorization for name, choice in design.plan.items()} == entry["plan"]
        assert design.eval_value == (entry["fidelity"] if raw["metric"] == "fidelity" else entry["eval_accuracy"])
        assert (None if design.test_score is None else design.test_score.value) == entry["accuracy"]
        assert (design.test_score or design.eval_score).loss_standard_error == entry.get(
            "loss_standard_error" if entry["accuracy"] is None else "accuracy_loss_standard_error"
        )
        assert design.weight_bytes == 4 * entry["params"]
    for layer, entry in zip(found.layers, raw["layers"], strict=True):
        assert (layer.inputs, layer.outputs) == (entry["in"], entry["out"])
        assert [option.factorization for option in layer.options] == [o["factorization"] for o in entry["options"]]
        for option, old_option in zip(layer.options, entry["options"], strict=True):
            assert list(to_plain(option.latency.cold).values()) == old_option["cold_us"]
            assert option.kernel_error == old_option.get("kernel_error")
    assert (found.recommended, found.svd_at_equal_size) == (raw["recommended"], raw["svd_at_equal_params"])
    assert (found.meter.name, found.meter.kind) == (raw["meter"], raw["latency"]["kind"])
    assert (found.target.digest, found.space.source) == (raw["settings"]["target_digest"], raw["settings"]["space"])
    assert found.settings.limits.max_drop == raw["settings"]["max_drop"]
    assert found.data.calib.sha256 == raw["data_sha256"]["calib"]
    assert list(found.notes) == raw["notes"]


def test_a_latency_that_version_1_did_not_say_is_the_sum_over_layers(of_board):
    entry = next(entry for entry in of_board["designs"] if entry["id"] == of_board["recommended"])
    options = {(layer["name"], o["factorization"]): o for layer in of_board["layers"] for o in layer["options"]}
    cold = [options[name, text]["cold_us"] for name, text in entry["plan"].items()]
    found = document_of_plain(of_board).best.latency
    assert list(to_plain(found.cold).values()) == pytest.approx([sum(values) for values in zip(*cold, strict=True)])
    del of_board["layers"][0]["options"][:]
    assert document_of_plain(of_board).best.latency.cold is None


def test_what_the_first_files_did_not_know_is_null(of_board):
    for design in (of_board["baseline"], *of_board["designs"], *of_board["dominated"]):
        for key in ("eval_interval", "accuracy_interval", "accuracy_loss_standard_error", "refined", "board"):
            del design[key]
    for layer in of_board["layers"]:
        del layer["spectra"]
        for option in layer["options"]:
            del option["loss"]
    for key in ("dominated", "evaluated", "kernels", "command"):
        del of_board[key]
    del of_board["model"]["name"], of_board["latency"]["bracket"], of_board["settings"]["correct"]
    found = document_of_plain(of_board)
    assert (found.evaluated, found.command, found.kernels, found.dominated) == (None, None, (), ())
    assert found.title == "chain"
    assert found.original.board is None and found.original.reported_interval is None
    assert found.layers[0].spectra.weight is None and found.layers[0].options[0].loss is None


def test_a_document_is_read_back_as_it_was_written(old, tmp_path):
    found = read_document(old)
    write_document(found, tmp_path)
    assert read_document(tmp_path) == found == parse_document(json_of(found))
    assert json.loads((tmp_path / "front.json").read_text())["schema_version"] == 2


def test_keys_of_a_later_lrfdse_are_passed_over(of_board):
    expected = document_of_plain(of_board)
    later = {**to_plain(expected), "carbon": 3}
    later["designs"][0]["energy_uj"] = 4.0
    assert document_of_plain(later) == expected


@pytest.fixture(params=[1, 2])
def either(request, of_board):
    """The file with a board in each version."""
    return of_board if request.param == 1 else to_plain(document_of_plain(of_board))


def put(path, value):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        if value is drop:
            del document[last]
        else:
            document[last] = value

    return change


drop = object()


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["designs", 0, "params"], "many", "designs[0].params must be a whole number, but is 'many'"),
        (["designs", 0, "params"], 1.5, "designs[0].params must be a whole number, but is 1.5"),
        (["dominated", 1, "on_front"], 1, "dominated[1].on_front must be true or false, but is 1"),
        (["designs", 0, "cache_regime"], "hot", "designs[0].cache_regime must be one of 'warm', 'cold', but is 'hot'"),
        (["layers", 1, "funnel", "stages", 0, "designs"], None, "layers[1].funnel.stages[0].designs must be a whole"),
        (["layers", 0, "options", 2, "schedules"], drop, "layers[0].options[2].schedules is missing"),
        (["versions"], [1], "versions must be an object, but is [1]"),
        (["versions", "a\nb"], 3, "versions.'a\\nb' must be a text, but is 3"),
        (["designs"], {}, "designs must be a list, but is {}"),
        (["untouched"], drop, "untouched is missing"),
        (["recommended"], "nobody", "recommended must be the id of one of its designs, but is 'nobody'"),
        (["designs", 0, "plan", "fc2"], drop, "designs[0].plan has no choice for layer 'fc2'"),
        (["schema_version"], 0, "schema_version 0 is none that lrfdse ever wrote"),
        (["schema_version"], -1, "schema_version -1 is none that lrfdse ever wrote"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_key(path, value, said, either):
    put(path, value)(either)
    with pytest.raises(InputError) as told:
        document_of_plain(either, "out/front.json")
    text = str(told.value)
    assert text.startswith(f"out/front.json: {said}")
    assert text.endswith("; explore again")
    assert "\n" not in text


def test_what_is_wrong_with_the_original_is_said_by_the_key_of_the_file_s_version(either):
    key = {1: "baseline", 2: "original"}[either["schema_version"]]
    put([key, "flops"], 10**400)(either)
    with pytest.raises(InputError, match=rf"^front\.json: {key}\.flops must be a whole number, but is 1000"):
        document_of_plain(either)


@pytest.mark.parametrize("version", ["1", 1.0, True, None, [1]])
def test_a_version_is_a_whole_number(version, either):
    either["schema_version"] = version
    with pytest.raises(InputError, match=r"not a front\.json of lrfdse: it has no schema_version"):
        document_of_plain(either)


def test_a_newer_version_is_left_to_a_newer_lrfdse(either):
    either["schema_version"] = 3
    with pytest.raises(InputError, match="3 is newer than 2, which this lrfdse reads; use the lrfdse that wrote it"):
        document_of_plain(either)


def test_a_latency_in_the_design_s_own_cache_regime_must_be_there(of_board):
    document = to_plain(document_of_plain(of_board))
    document["designs"][1]["latency"]["warm"] = None
    with pytest.raises(InputError, match=r"designs\[1\]\.latency\.warm is missing"):
        document_of_plain(document)


CUT = {
    "model": {},
    "target": {"name": "t"},
    "meter": {"name": "model", "kind": "modelled"},
    "metric": "accuracy",
    "settings": {},
    "recommended": "x",
    "designs": [],
    "schema_version": 2,
    "original": {
        "id": "x",
        "params": 1,
        "weight_bytes": 4,
        "flops": 2,
        "cache_regime": "warm",
        "latency": {"warm": {"us": 1, "low_us": 1, "high_us": 1}},
    },
}


def test_a_gate_takes_a_file_that_was_cut_down(tmp_path):
    found = document_of_plain(CUT, whole=False)
    assert (found.best.charged.us, found.layers, found.settings.limits.max_drop) == (1.0, (), None)
    with pytest.raises(InputError, match=r"model\.name is missing"):
        document_of_plain(CUT)


@pytest.mark.parametrize("key", [key for key in CUT if key != "schema_version"])
def test_what_a_gate_needs_must_be_there(key):
    cut = {name: value for name, value in CUT.items() if name != key}
    with pytest.raises(InputError, match=f"{key} is missing"):
        document_of_plain(cut, whole=False)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'"x"', b'{"schema_version": NaN}'])
def test_a_file_that_is_no_document_is_one_sentence(content, tmp_path):
    (tmp_path / "front.json").write_bytes(content)
    for path in (tmp_path, tmp_path / "front.json"):
        with pytest.raises(InputError, match=r"not a front\.json of lrfdse") as told:
            read_document(path)
        assert str(told.value).startswith(f"{tmp_path / 'front.json'}: ")
        assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"nothing: cannot be read: No such file or directory; name the output folder"):
        read_document(tmp_path / "nothing")


def places(value, path=()):
    """Yield the path of every value inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


OLD = sorted(Path(__file__).with_name("fixtures").glob("1-*.json"))
WHOLE = [to_plain(read_document(path)) for path in OLD]
SCHEMA = jsonschema.Draft202012Validator(document_schema())
ANYTHING = [None, "x", -1, 0.5, [], {}, True, [1.0, 2.0], {"us": 1.0}, drop]


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_reader_takes_what_the_schema_allows_and_nothing_else(data):
    """Two accounts of one form: the schema is checked by another program's validator."""
    found = copy.deepcopy(data.draw(st.sampled_from(WHOLE)))
    path = data.draw(st.sampled_from([path for path in places(found) if path[0] != "schema_version"]))
    put(path, data.draw(st.sampled_from(ANYTHING)))(found)
    valid = SCHEMA.is_valid(found)
    try:
        document = document_of_plain(found)
    except InputError as error:
        # Beyond the form, the parts must fit together.
        fits = ("recommended must be the id", "svd_at_equal_size must be", "has no choice for layer", "cache regime")
        assert not valid or any(part in str(error) for part in fits)
        assert "\n" not in str(error)
    else:
        assert valid and isinstance(document, Document)
