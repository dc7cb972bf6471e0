"""CI's formats, each read back by what consumes it, whatever the names in them."""

from __future__ import annotations

import dataclasses
import decimal
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.check.benchmark import benchmark_json
from lrfdse.check.gate import Request, check
from lrfdse.check.github import SUMMARY_BYTES, fitted, outputs, step_summary, workflow_commands
from lrfdse.check.junit import junit_xml
from lrfdse.check.lava import lava_lines
from lrfdse.check.verdict import Check, CheckReport
from lrfdse.ir.latency import Latency
from lrfdse.results.asked import Limits
from lrfdse.results.layers import Latencies

names = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(
    [
        "a|b",
        "::error::x",
        "100%25",
        "x\n::set-output name=a::b",
        "]]>",
        "\x00\x1b[31m",
        "\ud800",
        "\ufffe",
        "<b>&amp;",
        "`",
    ]
)
verdicts = st.sampled_from(["pass", "fail", "skip", "error"])
checks = st.lists(
    st.builds(
        Check,
        st.sampled_from(["latency", "params", "loss", "latency-regression", "exploration"]),
        verdicts,
        names,
        names,
        names,
        st.none() | st.floats(-1e12, 1e12),
        st.sampled_from(["us", "points"]),
    ),
    max_size=5,
    unique_by=lambda each: each.name,
)
anything = st.builds(lambda m, t, c: CheckReport(Path("out"), m, t, "model", tuple(c)), names, names, checks)


@pytest.fixture(scope="module")
def schema():
    etree = pytest.importorskip("lxml.etree")
    return etree.XMLSchema(etree.parse(Path(__file__).with_name("junit.xsd")))


@given(found=anything)
def test_junit_is_valid_xml_of_the_schema_whatever_the_names(schema, found):
    etree = pytest.importorskip("lxml.etree")
    tree = etree.fromstring(junit_xml(found).encode())
    schema.assertValid(tree)
    (suite,) = tree
    assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(found.checks)
    for element, verdict in (("failure", "fail"), ("error", "error"), ("skipped", "skip")):
        assert len(list(suite.iter(element))) == len(found.of(verdict))


def test_a_junit_parser_reads_the_verdicts_the_reasons_and_the_numbers(front, tmp_path):
    junitparser = pytest.importorskip("junitparser")
    folder = front(change=lambda d: d.update(target="my <board> & Co"), eval_accuracy=None)
    checked = check(Request(folder, limits=Limits(max_latency_us=25.0, max_params=49_999, max_drop=0.01)))
    (tmp_path / "junit.xml").write_text(junit_xml(checked))
    (suite,) = junitparser.JUnitXml.fromfile(str(tmp_path / "junit.xml"))
    assert (suite.name, suite.tests, suite.failures, suite.errors, suite.skipped) == ("my <board> & Co", 3, 1, 0, 1)
    cases = {case.name: case.result for case in suite}
    assert cases["latency"] == []
    assert isinstance(cases["params"][0], junitparser.Failure)
    assert cases["params"][0].message == "50,000 is over 49,999"
    assert isinstance(cases["loss"][0], junitparser.Skipped)
    properties = {each.name: each.value for each in suite.properties()}
    assert properties["latency_us"] == "20.0"
    assert (properties["params"], properties["design"]) == ("50000", "5d8446bf")


def test_a_tool_that_failed_is_an_error_and_an_absent_device_is_skipped(front):
    junitparser = pytest.importorskip("junitparser")
    for kind, element in (("tool", junitparser.Error), ("device", junitparser.Skipped)):
        log = [{"stage": "failed", "kind": kind, "text": "qemu: \x1b[1mgone", "target": "riscv64"}]
        checked = check(Request(front(kind, log=log)))
        (suite,) = junitparser.JUnitXml.fromstring(junit_xml(checked).encode())
        (case,) = suite
        assert (suite.name, type(case.result[0])) == ("riscv64", element)


def read_command(line):
    """Read a workflow command by the rules that the runner documents for `::name key=value,...::data`."""
    found = re.fullmatch(r"::([a-z-]+)(?: (.*?))?::(.*)", line)
    assert found, line
    pairs = dict(pair.split("=", 1) for pair in (found[2] or "").split(",") if pair)

    def unescape(text, codes):
        for code, character in codes:
            text = text.replace(code, character)
        return text

    data = [("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]
    properties = [*data[:2], ("%3A", ":"), ("%2C", ","), data[2]]
    return found[1], {key: unescape(value, properties) for key, value in pairs.items()}, unescape(found[3], data)


@given(anything)
def test_workflow_commands_read_back_whatever_the_names(found):
    lines = workflow_commands(found)
    told = [each for each in found.checks if each.verdict != "pass"]
    assert len(lines) == len(told)
    for line, each in zip(lines, told, strict=True):
        assert "\n" not in line
        assert "\r" not in line
        level, properties, message = read_command(line)
        assert level == ("notice" if each.verdict == "skip" else "error")
        assert message == (each.reason or each.value)
        # The runner drops a property without a value, and ours always starts with a word.
        assert properties == {"title": f"lrfdse: {each.name}, {found.title}"}


def read_outputs(text):
    """Read a file of GITHUB_OUTPUT by the runner's rules: `name=value`, or `name<<delimiter` up to that line."""
    found, lines = {}, text.split("\n")
    assert lines.pop() == ""
    while lines:
        line = lines.pop(0)
        equals, heredoc = line.find("="), line.find("<<")
        if equals >= 0 and (heredoc < 0 or equals < heredoc):
            name, _, value = line.partition("=")
        else:
            name, _, delimiter = line.partition("<<")
            end = lines.index(delimiter)
            value, lines = "\n".join(lines[:end]), lines[end + 1 :]
        found[name] = value
    return found


@pytest.mark.parametrize("name", ["out put", "a\nverdict=pass", "x<<EOF\nEOF\nverdict=fail"])
def test_outputs_read_back(name, front):
    checked = check(Request(front(name), limits=Limits(max_params=10)))
    assert read_outputs(outputs(checked)) == {
        "verdict": "fail",
        "design": "5d8446bf",
        "latency_us": "20.0",
        "latency_warm_us": "20.0",
        "params": "50000",
        "compression": "5.332",
        "model": str(checked.source / "designs/5d8446bf/model.onnx"),
    }


def test_speed_ups_are_warm_against_warm_and_cold_against_cold(front):
    checked = check(Request(front()))
    warm, cold = Latency(20.0, 20.0, 30.0), Latency(80.0, 80.0, 90.0)
    design = dataclasses.replace(checked.design, latency=Latencies(warm=warm, cold=cold), cache_regime="warm")
    before = Latencies(warm=Latency(200.0, 200.0, 200.0), cold=Latency(240.0, 240.0, 240.0))
    original = dataclasses.replace(checked.original, latency=before, cache_regime="cold")
    found = read_outputs(outputs(dataclasses.replace(checked, design=design, original=original)))
    assert (found["latency_warm_us"], found["latency_cold_us"]) == ("20.0", "80.0")
    assert (found["speedup_warm"], found["speedup_cold"], found["speedup"]) == ("10", "3", "10")


@settings(deadline=None)
@given(anything)
def test_the_summary_is_one_table_whatever_the_names(found):
    markdown_it = pytest.importorskip("markdown_it")
    tokens = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").parse(step_summary(found))
    assert sum(token.type == "tr_open" for token in tokens) == 1 + len(found.checks)
    assert sum(token.type in ("td_open", "th_open") for token in tokens) == 5 * (1 + len(found.checks))
    inner = [child.type for token in tokens if token.type == "inline" for child in token.children]
    assert set(inner) <= {"text", "text_special", "strong_open", "strong_close"}


def test_the_summary_shows_what_was_written(front):
    markdown_it = pytest.importorskip("markdown_it")
    checked = check(Request(front(change=lambda d: d.update(target="a|b *c* <i>")), limits=Limits(max_latency_us=1.0)))
    html = markdown_it.MarkdownIt("commonmark").enable("table").render(step_summary(checked))
    assert "lenet for a|b *c* &lt;i&gt;" in html
    assert "<strong>FAIL</strong>" in html
    assert "20 us [16..24]" in html


@given(st.integers(0, SUMMARY_BYTES + 10), st.integers(1, 2000))
def test_a_summary_keeps_within_its_size(there, rows):
    text = "".join(f"| é {k} |\n" for k in range(rows)) * 20
    kept = fitted(text, there)
    assert there + len(kept.encode()) <= max(there, SUMMARY_BYTES)
    assert kept == text or not kept or (text.startswith(kept.partition("\n\n*(cut")[0]) and "(cut" in kept)


def test_benchmark_entries_have_the_documented_shape(front):
    entries = json.loads(benchmark_json(check(Request(front()))))
    for entry in entries:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert {"name", "unit", "value"} <= set(entry)
        assert type(entry["value"]) in (int, float)
        assert all(type(entry[key]) is str for key in set(entry) - {"value"})
    assert {entry["name"]: (entry["value"], entry["unit"], entry.get("range")) for entry in entries} == {
        "lenet riscv64: latency (modelled)": (20.0, "us", "± 4"),
        "lenet riscv64: parameters": (50_000, "parameters", None),
        "lenet riscv64: loss": (0.75, "points", "± 0.392"),
    }


def test_no_benchmark_without_a_design(front):
    assert json.loads(benchmark_json(check(Request(front(change=lambda d: d.update(recommended=None)))))) == []


def read_signal(line):
    """Read a signal as LAVA's dispatcher does: at white space, then at the one equals sign of each part."""
    found = re.fullmatch(r"<LAVA_SIGNAL_(\S+) ([^>]+)>", line)
    assert found, line
    parts = [part.split("=") for part in found[2].split()]
    assert all(len(part) == 2 for part in parts)
    return found[1], {key.lower(): value for key, value in parts}


@given(anything)
def test_lava_reads_every_signal_whatever_the_names(found):
    seen = set()
    for line, each in zip(lava_lines(found), found.checks, strict=True):
        kind, data = read_signal(line)
        assert kind == "TESTCASE"
        assert data["test_case_id"] not in seen
        seen.add(data["test_case_id"])
        assert data["result"] in ("pass", "fail", "skip", "unknown")
        if each.measurement is not None:
            assert data["units"] == each.unit
            assert float(decimal.Decimal(data["measurement"])) == pytest.approx(each.measurement, rel=1e-9)


def test_a_lava_line_is_what_lava_test_case_prints(front):
    checked = check(Request(front(), limits=Limits(max_latency_us=10.0)))
    expected = "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=lenet.riscv64.latency RESULT=fail UNITS=us MEASUREMENT=20>"
    assert lava_lines(checked) == [expected]


def test_a_loss_that_nobody_measured_is_skipped_in_every_output(front):
    """JUnit: skipped; GitHub: a notice; LAVA: skip; the benchmark has no such entry."""

    def accept(document):
        document |= {"metric": "fidelity", "verified": False}
        document["settings"]["accept_unverified"] = True

    checked = check(Request(front(change=accept), limits=Limits(max_params=50_000, max_drop=0.01)))
    (suite,) = ElementTree.fromstring(junit_xml(checked))
    assert (suite.get("skipped"), suite.get("failures")) == ("1", "0")
    assert "no loss was measured" in suite.find("testcase[@name='loss']/skipped").get("message")
    assert suite.find("properties/property[@name='loss_points']") is None
    (notice,) = workflow_commands(checked)
    assert notice.startswith("::notice title=lrfdse%3A loss") and "no loss was measured" in notice
    assert lava_lines(checked)[1] == "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=lenet.riscv64.loss RESULT=skip>"
    names = [entry["name"] for entry in json.loads(benchmark_json(checked))]
    assert names == ["lenet riscv64: latency (modelled)", "lenet riscv64: parameters"]
    assert read_outputs(outputs(checked))["verdict"] == "pass"


def test_where_all_was_skipped_the_verdict_is_no_pass(front):
    checked = check(Request(front(change=lambda d: d.update(verified=False, recommended=None))))
    assert (checked.exit_code, read_outputs(outputs(checked))) == (0, {"verdict": "skip"})
