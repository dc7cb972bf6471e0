"""Help texts that name what is registered: the built-in names stand in the text, those of plug-ins are added."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperOption

_GROUP = re.compile(r"\{(lrfdse\.\w+)\}")
"""An entry-point group in a help text."""


class NamingCommand(TyperCommand):
    """A command whose options may have an entry-point group in their help, such as "{lrfdse.meters}".

    When help is printed, and only then, the names that plug-ins offer under the group stand in its place, each after a
    comma. Nothing is imported for it.
    """

    # Typer brings Click inside itself from some version on, so Click's types cannot be named.
    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, all names in it."""
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.help:
                parameter.help = with_plugins(parameter.help)
        super().format_help(ctx, formatter)


def with_plugins(text: str) -> str:
    """Return a text with the names that plug-ins offer in the place of each group."""
    from lrfdse.base.registry import installed

    return _GROUP.sub(lambda found: "".join(f", {name}" for name in installed(found[1])), text)
