"""How good a model's outputs are: metrics, scores with intervals, divergence from the original."""
