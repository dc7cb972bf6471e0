"""ONNX models: their fully-connected layers found and replaced, run on data, and judged."""

from lrfdse.model.data import Dataset, load_data, random_data
from lrfdse.model.evaluate import hits
from lrfdse.model.find import Site, Untouched
from lrfdse.model.graph import Model, load_model
from lrfdse.model.moments import moments
from lrfdse.model.rewrite import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.model.shapes import Port

__all__ = [
    "Dataset",
    "Model",
    "Port",
    "Runtime",
    "Site",
    "Untouched",
    "hits",
    "load_data",
    "load_model",
    "moments",
    "random_data",
    "rewrite",
]
