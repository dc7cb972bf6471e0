"""The parts of the kernels benchmark (scripts/bench/kernels.py)."""
