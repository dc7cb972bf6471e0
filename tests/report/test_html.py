from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import html.parser
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.report.page.html import brief_html, report_html
from lrfdse.results.read import document_of_plain

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Checks that tags nest, and collects what a browser would see."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.links, self.loads, self.scripts = [], [], [], [], [], []
        self.text, self.policy = [], ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append(tag)
        assert not any(name.startswith("on") for name in attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        self.loads += [attributes[name] for name in ("src", "srcset", "data", "poster") if name in attributes]
        if attributes.get("http-equiv") == "Content-Security-Policy":
            self.policy = attributes["content"]
        if tag == "script":
            self.scripts.append([attributes.get("type"), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data
        elif "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def test_the_page_is_well_formed_and_its_anchors_exist(document, read):
    text = report_html(read(document))
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert page.tags.count("h1") == page.tags.count("title") == page.tags.count("main") == 1


def test_hostile_names_are_text(hostile, read):
    text = report_html(read(hostile))
    page = Page(text)
    assert page.tags.count("script") == 3
    assert text.lower().count("</script") == 3
    names = [layer["name"] for layer in hostile["layers"]]
    assert all(" ".join(name.split()) in page.words for name in names)
    assert not {"b", "i"} & set(page.tags)
    assert "crashed: <b>signal 11</b>" in page.words
    figures = json.loads(page.scripts[0][1])
    hovers = json.dumps([trace.get("hovertext") for figure in figures.values() for trace in figure["data"]])
    # Plotly reads texts as HTML of a kind, so names must be escaped inside the JSON as well.
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hovers
    assert "<script" not in hovers
    assert "%{x}" not in json.dumps([t.get("hovertemplate") for f in figures.values() for t in f["data"]])


def test_nothing_is_fetched_and_only_known_scripts_run(hostile, read):
    text = report_html(read(hostile))
    page = Page(text)
    assert page.loads == []
    assert all(re.match(r"#|designs/[0-9a-f]{8}/", link) for link in page.links)
    rest = text[: text.index('<script type="application/json"')]
    assert not re.search(r"https?://|//\w|@import|url\(", rest)
    kinds = [kind for kind, _ in page.scripts]
    assert kinds == ["application/json", "text/plain", None]
    plotly = gzip.decompress(base64.b64decode(page.scripts[1][1]))
    assert b"plotly.js v" in plotly[:200]
    digests = [
        base64.b64encode(hashlib.sha256(code).digest()).decode() for code in (page.scripts[2][1].encode(), plotly)
    ]
    assert "default-src 'none'" in page.policy
    allowed = re.search(r"script-src ([^;]*)", page.policy)[1]
    assert allowed.split() == [f"'sha256-{digest}'" for digest in digests]


def test_a_path_that_lrfdse_does_not_write_is_no_link(document, read):
    document["designs"][1]["model"] = "javascript:alert(1)//model.onnx"
    page = Page(report_html(read(document)))
    assert all(link.startswith("#") for link in page.links)


def test_the_tables_say_everything_without_javascript(document, read):
    words = Page(report_html(read(document))).words
    for design in (*document["designs"], *document["dominated"]):
        assert design["id"] in words
        assert f"{design['params']:,}" in words
        assert f"{100 * design['test_score']['value']:.2f}" in words
        assert all(each["factorization"] in words.replace(", ", ",") for each in design["plan"].values())
    for layer in document["layers"]:
        assert f"{layer['spectra']['whitened']['effective_rank']:.0f}" in words
    for expected in (
        "Recommended: aaaaaaaa, 0.78 KiB of weights instead of 1.7; modelled latency",
        "4.0x lower warm, 4.0x cold",
        "it lost 0.50 points (± 0.61, 95 %)",
        "at most 1 point of accuracy on the evaluation data and at most 5,000 parameters",
        "lrf_fc1",
        "conv/<1>",
        "1.00e10",
        "published: 1.6 GHz",
        "low and high",
        document["command"],
        "qemu 7.2",
        document["model"]["sha256"],
        "Kernels that failed",
    ):
        assert expected in words


def test_modelled_and_measured_are_said(document, read):
    words = Page(report_html(read(document))).words
    assert "Every latency here is modelled, none is measured" in words
    assert "warm (µs), modelled" in words and "cold (µs), modelled" in words
    assert "its latency modelled at 1600 MHz by counted cycles." in words
    document["meter"]["procedure"] = "by adding & multiplying"
    assert "its latency modelled at 1600 MHz by adding & multiplying." in Page(report_html(read(document))).words
    document["meter"]["procedure"] = ""
    assert "its latency modelled at 1600 MHz by the meter model." in Page(report_html(read(document))).words
    document["meter"].update(name="host", kind="measured")
    words = Page(report_html(read(document))).words
    assert "Every latency here is measured" in words
    assert "modelled latency" not in words
    assert "warm (µs), measured" in words


def test_a_front_without_test_data(untested, read):
    words = Page(report_html(read(untested))).words
    assert "fidelity is 97.00%" in words
    assert "test data, which chose nothing" not in words


@pytest.mark.parametrize("choice", [None, "bbbbbbbb"])
def test_when_nothing_is_recommended(document, choice, read):
    document["recommended"] = choice
    words = Page(report_html(read(document))).words
    sentence = "No design satisfies the limits" if choice is None else "No compressed design satisfies the limits"
    assert sentence in words
    assert "Layer by layer in C" not in words


def test_losses_that_nobody_measured_are_not_shown(unverified, read):
    page = Page(report_html(read(unverified)))
    assert "No design is recommended, because nothing says what one loses" in page.words
    assert "not measured" in page.words and "12.50" in page.words
    assert "97.00" not in page.words and "fidelity" not in page.words.lower()


def test_what_was_accepted_unverified_is_said(unverified, read):
    unverified["recommended"] = "aaaaaaaa"
    unverified["settings"]["accept_unverified"] = True
    words = Page(report_html(read(unverified))).words
    assert "Recommended: aaaaaaaa" in words and "Nobody verified it" in words
    assert "97.00" not in words and "Output error" in words


def test_output_errors_that_are_not_known_are_said(unverified, read):
    for design in (unverified["original"], *unverified["designs"], *unverified["dominated"]):
        design["output_error"] = None
    words = Page(report_html(read(unverified))).words
    assert "unknown" in words and "97.00" not in words


def test_a_model_with_many_layers_folds_its_plans(document, read):
    plan = {f"layer{k}": {"factorization": "svd:r=2", "storage": "float32"} for k in range(30)}
    document["designs"][1]["plan"] |= plan
    words = Page(report_html(read(document))).words
    assert "32 layers factorized" in words


def test_equal_documents_give_equal_pages(document, read):
    assert report_html(read(document)) == report_html(read(copy.deepcopy(document)))


def test_report_writes_the_same_bytes_again_anywhere(document, read, folder_of, capsys, tmp_path):
    folder = folder_of(document)
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    first = (folder / "report.html").read_bytes()
    assert first.decode() == report_html(read(document))
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    folder.rename(moved)
    (moved / "report.html").unlink()
    assert run(["report", str(moved)]) == 0
    assert (moved / "report.html").read_bytes() == first


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a front.json of lrfdse"),
        ("[]", "no schema_version"),
        ("[" * 100_000, "not a front.json of lrfdse"),
        ({"schema_version": "1"}, "no schema_version"),
        ({"schema_version": 0}, "schema_version 0 is none that lrfdse ever wrote; explore again"),
        (
            {"schema_version": 3},
            "schema_version 3 is newer than 2, which this lrfdse reads; use the lrfdse that wrote it",
        ),
        ({"schema_version": 2}, "front.json: model is missing; explore again"),
        ({"schema_version": 1}, "front.json: model is missing; explore again"),
        ('{"schema_version": NaN}', "NaN is no number"),
    ],
)
def test_what_is_no_front_json_is_refused_in_a_line(content, said, folder_of, capsys):
    folder = folder_of(content)
    assert run(["report", str(folder)]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_a_missing_folder_is_refused_and_not_made(tmp_path, capsys):
    assert run(["report", str(tmp_path / "nothing")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def places(value, path=()):
    """Yield the path of every value inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_damaged_document_gives_a_page_or_one_clear_error(whole, data):
    damaged = copy.deepcopy(whole)
    *way, last = data.draw(st.sampled_from(list(places(whole))))
    part = damaged
    for key in way:
        part = part[key]
    wrong = data.draw(st.sampled_from([None, "\ud800\x00<b>", -1, 0, [], {}, True, "drop"]))
    if wrong == "drop":
        del part[last]
    else:
        part[last] = wrong
    try:
        text = report_html(document_of_plain(damaged))
    except InputError as error:
        assert "explore again" in str(error)
        assert "\n" not in str(error)
    else:
        text.encode()
        Page(text)


@pytest.mark.parametrize("where", ["resolution", "latency"])
def test_numbers_below_zero_end(whole, where):
    """Designs are grouped by what ties: one that ties with nothing, itself included, was looked at for ever."""
    damaged = copy.deepcopy(whole)
    if where == "resolution":
        damaged["meter"]["resolution"] = -1
    else:
        for design in [damaged["original"], *damaged["designs"], *damaged["dominated"]]:
            for latency in design["latency"].values():
                if latency is not None:
                    latency |= {"us": -1.0, "low_us": 1.0, "high_us": -1.0}
    try:
        text = report_html(document_of_plain(damaged))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        Page(text)


def test_the_short_report_fetches_nothing_and_runs_nothing(document, read, tmp_path):
    page = Page(brief_html(read(document), tmp_path))
    assert not page.loads and not page.scripts and not page.links
    assert {"table", "details"} <= set(page.tags)
    assert not {"style", "iframe", "object", "embed", "form", "base", "link", "meta"} & set(page.tags)
    assert not page.ids


def test_the_short_report_says_what_the_page_does(document, unverified, read, tmp_path):
    whole = read(document)
    words = Page(brief_html(whole, tmp_path)).words
    assert "Recommended: aaaaaaaa" in words
    assert "warm (µs), modelled" in words and "cold (µs), modelled" in words
    assert str(tmp_path / "report.html") in words
    for note in whole.notes:
        assert note in words
    assert (
        "No design is recommended, because nothing says what one loses"
        in Page(brief_html(read(unverified), tmp_path)).words
    )


def test_names_do_nothing_in_the_short_report(hostile, read, tmp_path):
    name = "<script>alert(1)</script>"
    text = brief_html(read(hostile), tmp_path / name)
    page = Page(text)
    assert not page.scripts
    assert f"{name}=tt:m=8x2,n=4x4,r=3" in page.words
    assert f"{name}/report.html" in page.words
    assert "\x00" not in text
