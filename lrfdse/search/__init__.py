"""Search over plans: the exact knapsack over per-layer tables, and the Optuna study of evaluated plans."""
