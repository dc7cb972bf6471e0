"""Search over plans: the exact knapsack over per-layer tables, and the Optuna study of evaluated plans."""

from lrfdse.search.knapsack import plans, plans_by_regime, uniform
from lrfdse.search.spread import spread
from lrfdse.search.tables import Choice, LayerTable, PlanFront

__all__ = [
    "Choice",
    "LayerTable",
    "PlanFront",
    "plans",
    "plans_by_regime",
    "spread",
    "uniform",
]
