"""All rules, by operator."""

from __future__ import annotations

from collections.abc import Mapping

from lrfdse.model.vjp.call import Rule
from lrfdse.model.vjp.elementwise import ELEMENTWISE
from lrfdse.model.vjp.products import PRODUCTS
from lrfdse.model.vjp.reductions import REDUCTIONS
from lrfdse.model.vjp.shapes import SHAPES
from lrfdse.model.vjp.windows import WINDOWS

RULES: Mapping[str, Rule] = {**ELEMENTWISE, **PRODUCTS, **REDUCTIONS, **SHAPES, **WINDOWS}
"""Operator of ONNX's own domain to rule."""
