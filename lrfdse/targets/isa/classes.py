"""The classes into which the listing of a kernel's machine code sorts instructions."""

from __future__ import annotations

VECTOR_FMA, SCALAR_FMA = "vector multiply-add", "scalar multiply-add"
VECTOR_LOAD, VECTOR_STORE = "vector load", "vector store"
SCALAR_LOAD, SCALAR_STORE = "scalar load", "scalar store"
"""Loads and stores of a single element or a general register are scalar."""
VECTOR_CONFIGURATION = "vector configuration"
OTHER_VECTOR, OTHER_FLOAT = "other vector", "other float"
BRANCH, INTEGER = "branch", "integer"

CLASSES = (
    *(VECTOR_FMA, SCALAR_FMA, VECTOR_LOAD, VECTOR_STORE, SCALAR_LOAD, SCALAR_STORE),
    *(VECTOR_CONFIGURATION, OTHER_VECTOR, OTHER_FLOAT, BRANCH, INTEGER),
)
"""Every instruction is of one of these; a listing counts them in this order."""

Rules = tuple[tuple[str, str], ...]
"""Pairs of class and regular expression: the first rule whose pattern an instruction begins with gives its class."""
