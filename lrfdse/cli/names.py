"""Help texts: options in groups, and what is registered by name, the names of plug-ins among it."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperOption

_GROUP = re.compile(r"\{(lrfdse\.\w+)\}")
"""An entry-point group in a help text."""


class NamingCommand(TyperCommand):
    """A command whose options may have an entry-point group in their help, such as "{lrfdse.meters}".

    When help is printed, and only then, the names that plug-ins offer under the group stand in its place, each after a
    comma. Nothing is imported for it. Options are printed under the headings that `rich_help_panel` gives them.
    """

    # Typer brings Click inside itself from some version on, so Click's types cannot be named.
    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, all names in it."""
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.help:
                parameter.help = with_plugins(parameter.help)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each group of options under its heading, those without one last."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is None:
                continue
            if isinstance(parameter, TyperArgument):
                heading = "Arguments"
            else:
                heading = getattr(parameter, "rich_help_panel", None) or "Options"
            groups.setdefault(heading, []).append(record)
        groups["Options"] = groups.pop("Options", [])
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def with_plugins(text: str) -> str:
    """Return a text with the names that plug-ins offer in the place of each group."""
    from lrfdse.base.registry import installed

    return _GROUP.sub(lambda found: "".join(f", {name}" for name in installed(found[1])), text)
