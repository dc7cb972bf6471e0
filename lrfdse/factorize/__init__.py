"""Factorizations with numbers: cores fitted to a weight, and their true errors."""
