"""The exploration: the only package that composes all others."""

from lrfdse.explore.events import Event, Listener
from lrfdse.explore.export import export
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.result import Exploration, Inspection, LayerResult, Option
from lrfdse.explore.run import explore, inspect
from lrfdse.explore.settings import Data, Limits, Settings

__all__ = [
    "Data",
    "Event",
    "Exploration",
    "Inspection",
    "LayerResult",
    "Limits",
    "Listener",
    "Option",
    "Settings",
    "explore",
    "export",
    "inspect",
    "settings_for",
]
