"""All rules, by operator."""

from __future__ import annotations

from collections.abc import Mapping

from lrfdse.healing.operators.call import Rule
from lrfdse.healing.operators.elementwise import ELEMENTWISE
from lrfdse.healing.operators.products import PRODUCTS
from lrfdse.healing.operators.reductions import REDUCTIONS
from lrfdse.healing.operators.shapes import SHAPES
from lrfdse.healing.operators.windows import WINDOWS

RULES: Mapping[str, Rule] = {**ELEMENTWISE, **PRODUCTS, **REDUCTIONS, **SHAPES, **WINDOWS}
"""Operator of ONNX's own domain to rule: what can stand behind a layer that is trained."""
