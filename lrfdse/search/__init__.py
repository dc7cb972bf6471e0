"""Search over plans: the exact knapsack over per-layer tables, and the Optuna study of evaluated plans."""

from lrfdse.search.knapsack import cheapest, plans, plans_by_regime, uniform
from lrfdse.search.spread import spread
from lrfdse.search.tables import Choice, LayerTable, PlanFront, of_texts

__all__ = [
    "Choice",
    "LayerTable",
    "PlanFront",
    "cheapest",
    "of_texts",
    "plans",
    "plans_by_regime",
    "spread",
    "uniform",
]
