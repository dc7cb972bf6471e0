"""Our kernels against those of others: ``python -m benchmarks.kernels``."""
