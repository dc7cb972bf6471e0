"""Design-space exploration of low-rank factorizations of ONNX models for embedded targets.

`explore` searches a model, `inspect` looks at its layers, `load` reads what an earlier exploration wrote, `heal`
trains the factors of a design, `build` compiles a whole model to a C library; `save_data` and `save_images` write the
data files that explorations read. Each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from lrfdse.base.version import __version__

if TYPE_CHECKING:
    from lrfdse.api import explore, heal, inspect, target_names
    from lrfdse.base.events import Event
    from lrfdse.collect.batches import save_data
    from lrfdse.collect.images import save_images
    from lrfdse.errors import InputError, LrfdseError, ToolError
    from lrfdse.found import Exploration, Inspection, load
    from lrfdse.library.build import Built, build
    from lrfdse.library.facts import LibraryFacts
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.results.settings import Limits

__all__ = [
    "Built",
    "DesignFacts",
    "Document",
    "Event",
    "Exploration",
    "InputError",
    "Inspection",
    "LibraryFacts",
    "Limits",
    "LrfdseError",
    "ToolError",
    "__version__",
    "build",
    "explore",
    "heal",
    "inspect",
    "load",
    "save_data",
    "save_images",
    "target_names",
]

_HOMES = {
    "Built": "lrfdse.library.build",
    "DesignFacts": "lrfdse.results.designs",
    "Document": "lrfdse.results.document",
    "Event": "lrfdse.base.events",
    "Exploration": "lrfdse.found",
    "InputError": "lrfdse.errors",
    "Inspection": "lrfdse.found",
    "LibraryFacts": "lrfdse.library.facts",
    "Limits": "lrfdse.results.settings",
    "LrfdseError": "lrfdse.errors",
    "ToolError": "lrfdse.errors",
    "build": "lrfdse.library.build",
    "explore": "lrfdse.api",
    "heal": "lrfdse.api",
    "inspect": "lrfdse.api",
    "load": "lrfdse.found",
    "save_data": "lrfdse.collect.batches",
    "save_images": "lrfdse.collect.images",
    "target_names": "lrfdse.api",
}
"""Public name to the module that defines it."""

# The import of a subpackage sets its name here, once. Done now and taken back, it cannot later put the package
# `lrfdse.explore` in the place of the function, which has the same name.
import_module("lrfdse.explore")
del globals()["explore"]


if not TYPE_CHECKING:  # A checker would take it for a promise of every name.

    def __getattr__(name: str) -> object:
        """Import a public name at its first use."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet among them."""
    return list(__all__)
