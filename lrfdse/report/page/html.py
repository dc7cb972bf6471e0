"""``report.html``: one file that a browser opens from disk, with no network.

Plotly's own JavaScript comes along compressed, and the page unpacks it. A content security policy lets exactly two
scripts run, by their digests, and nothing be fetched, so that no name in a model can do either.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.errors import InputError
from lrfdse.report.page.content import content_of
from lrfdse.results.read import read_document

if TYPE_CHECKING:
    from lrfdse.results.document import Document

_PAGE = Path(__file__).parent


def report_html(document: Document) -> str:
    """Return the page of an exploration's document; equal documents give equal pages.

    Raises
    ------
    InputError
        The document is damaged.
    """
    return _whole(lambda: _report_html(document))


def brief_html(document: Document, folder: Path) -> str:
    """Return the short report of an exploration in `folder`, a piece of HTML without scripts that fetches nothing.

    Raises
    ------
    InputError
        The document is damaged.
    """
    return _whole(lambda: _rendered("brief.html", **content_of(document), report=str(folder / "report.html")))


def _whole(render: Callable[[], str]) -> str:
    import jinja2

    try:
        return render()
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, jinja2.TemplateError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"not a whole front.json ({reason}); explore again") from error


def _rendered(template: str, **values: Any) -> str:
    """Return a template of this folder with values in it, every name in them escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template(template).render(**values)
    # Control characters and half surrogates, which JSON can hold and HTML cannot.
    return re.sub("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text.lstrip())


def _report_html(document: Document) -> str:
    packed, plotly_digest = _plotly()
    script = (_PAGE / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src {_digest(script)} {plotly_digest}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return _rendered(
        "page.html",
        **content_of(document),
        policy=policy,
        css=(_PAGE / "page.css").read_text(encoding="utf-8"),
        figures=_figures(document),
        plotly=packed,
        script=script,
    )


def write_again(folder: Path) -> Path:
    """Write ``report.html`` from the folder's ``front.json`` and return its path.

    Raises
    ------
    InputError
        The ``front.json`` is missing, broken or of another schema, or the folder cannot be written.
    """
    from lrfdse.base.files import sole_writer, write_atomically

    document = read_document(folder)
    try:
        page = report_html(document)
    except InputError as error:
        raise InputError(f"{folder / 'front.json'}: {error}") from error
    with sole_writer(folder):
        write_atomically(folder / "report.html", page)
    return folder / "report.html"


def _figures(document: Document) -> str:
    """Return the figures as JSON that no end tag inside a name can leave."""
    from lrfdse.report.page.deciding import deciding_figure, layers_figure, options_figure
    from lrfdse.report.page.figures import funnel_figure, pareto_figure, score_figure, spectra_figure

    made = {
        "deciding": deciding_figure(document),
        "layer-latency": layers_figure(document, "latency"),
        "layer-bytes": layers_figure(document, "bytes"),
        "options": options_figure(document),
        "pareto": pareto_figure(document),
        "params": score_figure(document),
        "funnel": funnel_figure(document),
        "spectra": spectra_figure(document),
    }
    plain = {}
    for name, figure in made.items():
        figure.layout.title = None
        plain[name] = json.loads(figure.to_json())
    text = json.dumps(plain, separators=(",", ":"), sort_keys=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@functools.cache
def _plotly() -> tuple[str, str]:
    """Return Plotly's JavaScript, compressed, as base64, and the digest of what it unpacks to."""
    from plotly.offline import get_plotlyjs

    code = get_plotlyjs()
    packed = gzip.compress(code.encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode(), _digest(code)


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
