"""The benchmarks behind ``results/``, run from a checkout: ``python -m benchmarks.kernels --quick``."""
