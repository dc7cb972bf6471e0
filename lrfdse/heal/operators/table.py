"""All rules, by operator."""

from __future__ import annotations

from collections.abc import Mapping

from lrfdse.heal.operators.call import Rule
from lrfdse.heal.operators.elementwise import ELEMENTWISE
from lrfdse.heal.operators.products import PRODUCTS
from lrfdse.heal.operators.reductions import REDUCTIONS
from lrfdse.heal.operators.shapes import SHAPES
from lrfdse.heal.operators.windows import WINDOWS

RULES: Mapping[str, Rule] = {**ELEMENTWISE, **PRODUCTS, **REDUCTIONS, **SHAPES, **WINDOWS}
"""Operator of ONNX's own domain to rule: what can stand behind a layer that is trained."""
