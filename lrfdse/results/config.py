"""The TOML file that repeats an exploration: its options by their names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lrfdse.results.command import options_of

if TYPE_CHECKING:
    from lrfdse.results.settings import Settings

CONFIG = "explore.toml"
"""Name of the file in an output folder."""


REPEATED = ("shape", "value", "judge")
"""Options that may be given more than once."""


def config_of(settings: Settings) -> str:
    """Return the file; ``lrfdse explore --config`` reads it from any folder, because paths are relative to its own.

    It holds what `lrfdse.results.command.command_of` holds: every option that has an effect on the result.
    """
    values: dict[str, object] = {}
    for option, value in options_of(settings):
        key = option.removeprefix("--")
        if value is None:
            continue
        if key in REPEATED:
            several = values.setdefault(key, [])
            assert isinstance(several, list)
            several.append(str(value))
        elif value == "":
            values[key.removeprefix("no-")] = not key.startswith("no-")
        else:
            values[key] = value if isinstance(value, int) else str(value)
    head = f"# Made by lrfdse. `lrfdse explore --config {CONFIG}` repeats the exploration.\n"
    # JSON's texts, numbers, lists and booleans are TOML's, but for one character that TOML wants escaped.
    lines = (
        f"{key} = {json.dumps(value, ensure_ascii=True)}".replace("\x7f", "\\u007f") for key, value in values.items()
    )
    return head + "".join(f"{line}\n" for line in lines)
