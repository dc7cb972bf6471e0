"""Factorizations with numbers: cores fitted to a weight, and their true errors."""

from lrfdse.factorize.chain import apply_chain, dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.methods import METHODS

__all__ = ["METHODS", "Fitter", "apply_chain", "dense_weight"]
