"""What optuna-dashboard shows of a study, by its own API and in a real Chromium."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest

from lrfdse.report.card import design_card
from lrfdse.report.dashboard import dress, dress_study, study_card
from lrfdse.report.page.figures import funnel_figure
from lrfdse.results.read import document_of_plain
from lrfdse.search.study.opening import join_study, open_study
from lrfdse.search.study.storage import open_storage

pytestmark = pytest.mark.slow

dashboard = pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")

KEPT = {"model.onnx": b"\x08\x08 a model", "kernels.txt": "Kernels \u00b5\n".encode()}
HOSTILE = "<script>alert(1)</script>"


def text_of(design, layer):
    return design["plan"][layer]["factorization"]


def explored(url, document):
    """Make the study in which a document's designs were evaluated, and one trial that failed."""
    designs = [document["original"], *document["designs"], *document["dominated"]]
    designs = list({design["id"]: design for design in designs}.values())
    layers = [layer["name"] for layer in document["layers"]]
    choices = {name: sorted({"dense", "svd:r=9", *(text_of(d, name) for d in designs)}) for name in layers}
    study = open_study(url, "demo", choices, identity={"model": document["model"]["sha256"]})
    study.enqueue(dict.fromkeys(layers, "svd:r=9"), "knapsack")
    study.fail(study.take(), "out of memory")
    for design in designs:
        study.enqueue({name: text_of(design, name) for name in layers}, design["origin"])
        latency, score = design["latency"][design["cache_regime"]]["us"], design["eval_score"]["value"]
        study.tell(study.take(), latency, design["params"], score, {"id": design["id"]})
    study.close_queue()
    study.close()


@pytest.fixture(params=["study.db", "study.journal"])
def url(request, tmp_path, document):
    path = str(tmp_path / request.param)
    explored(path, document)
    return path


@pytest.fixture
def designs(tmp_path):
    """The folder of the kept designs, of which there is one."""
    folder = tmp_path / "out" / "designs" / "aaaaaaaa"
    folder.mkdir(parents=True)
    for name, content in KEPT.items():
        (folder / name).write_bytes(content)
    return folder.parent


def dressed(url, document, designs, store):
    queue = join_study(url, "demo")
    try:
        dress(queue, document_of_plain(document), designs, store)
    finally:
        queue.close()


class Client:
    """Asks the dashboard's web application, with no server between."""

    def __init__(self, url, store):
        self._storage = open_storage(url)
        self._app = dashboard.wsgi(self._storage, artifact_store=optuna.artifacts.FileSystemArtifactStore(str(store)))

    def get(self, path):
        """Return status, headers and bytes."""
        found = []
        environment = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "test",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        }
        body = self._app(environment, lambda status, headers, *_: found.extend((status, dict(headers))))
        return int(found[0].split()[0]), found[1], b"".join(body)

    def study(self):
        summaries = json.loads(self.get("/api/studies")[2])["study_summaries"]
        identity = next(each["study_id"] for each in summaries if each["study_name"] == "demo")
        return identity, json.loads(self.get(f"/api/studies/{identity}")[2])


def by_design(detail):
    """Return the trials that have a result by design, as the dashboard gives them."""
    named = [({a["key"]: a["value"] for a in trial["user_attrs"]}, trial) for trial in detail["trials"]]
    return {attrs["id"]: trial for attrs, trial in named if "id" in attrs}


def test_the_dashboard_gets_names_notes_figures_and_artifacts(url, document, designs, tmp_path):
    store = tmp_path / "artifacts"
    dressed(url, document, designs, store)
    client = Client(url, store)
    identity, detail = client.study()
    assert detail["objective_names"] == ["latency_us", "params", "score"]
    trials = by_design(detail)
    best = trials["aaaaaaaa"]
    assert {p["name"]: p["param_external_value"] for p in best["params"]} == {
        "fc1": "tt:m=8x2,n=4x4,r=3",
        "fc2": "svd:r=2",
    }
    whole = document_of_plain(document)
    for design in (whole.original, *whole.designs):
        assert trials[design.id]["note"]["body"] == design_card(whole, design)
    assert trials["ffffffff"]["note"]["body"] == ""
    numbers = {name: trial["number"] for name, trial in trials.items()}
    assert detail["note"]["body"] == study_card(whole, numbers)

    found = {artifact["filename"]: artifact for artifact in best["artifacts"]}
    assert set(found) == set(KEPT) and len(best["artifacts"]) == 2
    for name, content in KEPT.items():
        path = f"/artifacts/{identity}/{best['trial_id']}/{found[name]['artifact_id']}"
        status, headers, body = client.get(path)
        assert (status, body) == (200, content)
        assert headers["Content-Type"].startswith(found[name]["mimetype"])
    assert all(not trial["artifacts"] for name, trial in trials.items() if name != "aaaaaaaa")

    figures = {each["id"]: json.loads(each["graph_object"]) for each in detail["plotly_graph_objects"]}
    assert set(figures) == {"deciding", "pareto", "funnel"}
    points = sum(len(trace["x"]) for trace in figures["pareto"]["data"] if trace.get("x"))
    assert points >= len(document["designs"]) + len(document["dominated"])
    funnel = json.loads(funnel_figure(whole).to_json())
    assert [trace["y"] for trace in figures["funnel"]["data"]] == [trace["y"] for trace in funnel["data"]]


def state(url, store):
    queue = join_study(url, "demo")
    try:
        study = queue.optuna_study
        attrs = copy.deepcopy(study._storage.get_study_system_attrs(study._study_id))
        return attrs, dict(queue.facts()), {path.name: path.read_bytes() for path in store.iterdir()}
    finally:
        queue.close()


def test_the_same_again_changes_nothing(url, document, designs, tmp_path):
    store = tmp_path / "artifacts"
    dressed(url, document, designs, store)
    before = state(url, store)
    assert len(before[2]) == 2
    dressed(url, document, designs, store)
    assert state(url, store) == before


def test_cards_follow_the_recommendation(url, document, designs, tmp_path):
    dressed(url, document, designs, tmp_path / "artifacts")
    other = copy.deepcopy(document)
    other["recommended"] = "cccccccc"
    other["dominated"] += [d for d in other["designs"] if d["id"] == "aaaaaaaa"]
    other["designs"] = [d for d in other["designs"] if d["id"] != "aaaaaaaa"]
    dressed(url, other, designs, tmp_path / "artifacts")
    trials = by_design(Client(url, tmp_path / "artifacts").study()[1])
    assert "recommended" in trials["cccccccc"]["note"]["body"]
    assert "recommended" not in trials["aaaaaaaa"]["note"]["body"]


def test_what_people_wrote_stays(url, document, designs, tmp_path):
    def study():
        return optuna.load_study(study_name="demo", storage=open_storage(url))

    trial = next(t for t in study().trials if t.user_attrs.get("id") == "aaaaaaaa")
    dashboard.save_note(optuna.Trial(study(), trial._trial_id), "mine")
    dressed(url, document, designs, tmp_path / "artifacts")
    dashboard.save_note(study(), "ours, with a remark")
    document["notes"].append("new")
    document["original"]["params"] += 1
    dressed(url, document, designs, tmp_path / "artifacts")
    assert dashboard.get_note(optuna.Trial(study(), trial._trial_id)) == "mine"
    assert dashboard.get_note(study()) == "ours, with a remark"


def test_a_new_file_takes_the_place_of_the_old(url, document, designs, tmp_path):
    store = tmp_path / "artifacts"
    dressed(url, document, designs, store)
    (designs / "aaaaaaaa" / "new").write_bytes(b"another model")
    os.replace(designs / "aaaaaaaa" / "new", designs / "aaaaaaaa" / "model.onnx")
    dressed(url, document, designs, store)
    client = Client(url, store)
    identity, detail = client.study()
    best = by_design(detail)["aaaaaaaa"]
    found = {artifact["filename"]: artifact["artifact_id"] for artifact in best["artifacts"]}
    assert len(best["artifacts"]) == 2
    assert client.get(f"/artifacts/{identity}/{best['trial_id']}/{found['model.onnx']}")[2] == b"another model"
    assert len(list(store.iterdir())) == 2


def test_a_damaged_artifact_is_put_right(url, document, designs, tmp_path):
    store = tmp_path / "artifacts"
    dressed(url, document, designs, store)
    for path in store.iterdir():
        path.unlink()
        path.write_bytes(b"cut")
    dressed(url, document, designs, store)
    assert sorted(path.read_bytes() for path in store.iterdir()) == sorted(KEPT.values())


def test_a_refined_design_says_whose_scores_the_trial_has(url, document, designs, tmp_path):
    document["designs"][1]["refined"] = True
    dressed(url, document, designs, tmp_path / "artifacts")
    trials = by_design(Client(url, tmp_path / "artifacts").study()[1])
    assert "refined" in trials["aaaaaaaa"]["note"]["body"]
    assert "refined" not in trials["cccccccc"]["note"]["body"]


def test_the_note_of_the_study_is_whole_whatever_the_names(hostile):
    from markdown_it import MarkdownIt

    hostile["model"]["name"] = HOSTILE
    hostile["model"]["path"] = "`a|b`" + HOSTILE
    hostile["command"] = "lrfdse explore './a b.onnx' --target riscv64 --output ."
    page = (
        MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(study_card(document_of_plain(hostile), {"aaaaaaaa": 7, "bbbbbbbb": 2}))
    )
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert "<code>aaaaaaaa</code>, trial 7" in page
    assert page.count("<table>") == 3
    assert "lrfdse explore './a b.onnx' \\\n  --target riscv64 \\\n  --output .\n" in page


def dress_at(url, document, folder, told, store=None, shared=True):
    """Dress the study of a document as an exploration does when it is finished."""
    output = folder / "out"
    store = store or output / "artifacts"
    dress_study(str(url), "demo", document_of_plain(document), output / "designs", store, shared, told)


def failures():
    return {
        "no study": lambda p: (p / "empty.db", None),
        "not a database": lambda p: (p / "text.db", None),
        "no server": lambda p: ("postgresql://me:secret@127.0.0.1:1/x", None),
        "no folder": lambda p: (p / "good.db", p / "text.db"),
    }


@pytest.mark.parametrize("case", failures())
def test_a_failure_is_a_note(case, tmp_path, document, designs):
    (tmp_path / "text.db").write_text("no database " * 100)
    explored(str(tmp_path / "good.db"), document)
    told = []
    url, store = failures()[case](tmp_path)
    dress_at(url, document, tmp_path, told.append, store)
    (event,) = told
    assert event.stage == "note" and event.text.startswith("optuna-dashboard will not show")
    assert "secret" not in event.text and "\n" not in event.text


def test_an_interruption_is_not_held_up(tmp_path, document, designs, monkeypatch):
    explored(str(tmp_path / "good.db"), document)
    monkeypatch.setattr("lrfdse.report.dashboard.pareto_figure", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        dress_at(tmp_path / "good.db", document, tmp_path, print)


@pytest.mark.parametrize("shared", [True, False])
def test_without_the_package_only_who_shares_hears_of_it(shared, tmp_path, document, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told = []
    dress_at(tmp_path / "study.db", document, tmp_path, told.append, shared=shared)
    assert [event.text.endswith("pip install 'lrfdse[dashboard]'") for event in told] == [True] * shared
    assert not (tmp_path / "study.db").exists()


@pytest.fixture(scope="module")
def served(explored, tmp_path_factory):
    """The address of an optuna-dashboard of that study, as a user starts it."""
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent)) or shutil.which(
        "optuna-dashboard"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        program,
        f"sqlite:///{explored}/study.db",
        "--artifact-dir",
        str(explored / "artifacts"),
        "--port",
        str(port),
    ]
    log = tmp_path_factory.mktemp("served") / "log"
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--server", "wsgiref"], stdout=file, stderr=file)
    try:
        address, patience = f"http://127.0.0.1:{port}", time.monotonic() + 600
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/studies", timeout=60).close()
                break
            assert process.poll() is None and time.monotonic() < patience, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def page(browser):
    made = browser.new_page(viewport={"width": 1400, "height": 900})
    made.set_default_timeout(120_000)
    made.failed = []
    made.on("pageerror", lambda error: made.failed.append(str(error)))
    yield made
    made.close()


@pytest.mark.slow
def test_a_real_study_in_chromium(page, served, explored):
    front = json.loads((explored / "front.json").read_text())
    best = next(design for design in front["designs"] if design["id"] == front["recommended"])
    identity, layer, text = (
        front["recommended"],
        *next(
            (name, choice["factorization"])
            for name, choice in best["plan"].items()
            if choice["factorization"] != "dense"
        ),
    )
    with contextlib.closing(urllib.request.urlopen(f"{served}/api/studies/1")) as answer:
        trial = by_design(json.load(answer))[identity]

    page.goto(f"{served}/dashboard/studies/1")
    page.get_by_text("latency_us").first.wait_for()
    page.get_by_text("Parameters against latency").first.wait_for()
    page.get_by_text("Designs that each filter left").first.wait_for()
    figure = page.locator(".js-plotly-plot", has_text="Parameters against latency")
    drawn = sum(design["params"] > 0 for design in (*front["designs"], *front["dominated"]))
    assert figure.locator(".scatterlayer .points path.point").count() >= drawn

    page.goto(f"{served}/dashboard/studies/1/note")
    page.get_by_role("heading", name="net on host").wait_for()
    page.get_by_role("cell", name=identity).first.wait_for()
    page.get_by_text("Latency is measured").first.wait_for()

    page.goto(f"{served}/dashboard/studies/1/trials?numbers={trial['number']}")
    page.get_by_role("heading", name=f"{identity} recommended").wait_for()
    page.get_by_text(f"{layer} {text}").first.wait_for()
    page.get_by_role("cell", name=text).first.wait_for()
    for name in ("model.onnx", "kernels.txt"):
        page.get_by_text(name, exact=True).wait_for()
        link = page.locator(f"a[download='{name}']").first.get_attribute("href")
        with contextlib.closing(urllib.request.urlopen(served + link)) as answer:
            assert answer.read() == (explored / "designs" / identity / name).read_bytes()
    assert page.failed == []


@pytest.mark.slow
def test_kept_kernels_are_summed_up(explored):
    front = json.loads((explored / "front.json").read_text())
    text = (explored / "designs" / front["recommended"] / "kernels.txt").read_text()
    for kernel in front["kernels"]:
        found = re.search(rf"symbol        {kernel['symbol']}\n.*\n  machine code  ([\d,]+) bytes", text)
        size = (explored / "designs" / front["recommended"] / "kernels" / f"{kernel['name']}.o").stat().st_size
        assert 0 < int(found[1].replace(",", "")) < size


def test_the_note_of_a_study_that_nobody_verified(unverified):
    card = study_card(document_of_plain(unverified), {"aaaaaaaa": 7, "bbbbbbbb": 2})
    assert "No design is recommended, because nothing says what one loses" in card
    assert "random inputs, which measure no loss" in card
    assert "output error (%)" in card and "97.00" not in card
