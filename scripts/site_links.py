"""A hook of MkDocs: what pages link outside of docs/ is not on the site, so such links become the names of files."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]]*)\]\((\.\./[^()\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page's text, links that leave the folder of the pages replaced by their text and the path."""
    folder = posixpath.dirname(page.file.src_uri)

    def replaced(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[2].partition("#")[0]))
        if not path.startswith("../"):
            return link[0]
        name = path.removeprefix("../")
        return link[1] if name in link[1] else f"{link[1]} (`{name}` in the repository)"

    return _LINK.sub(replaced, markdown)
