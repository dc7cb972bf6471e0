"""The model meter against hardware and against a simulator: ``python -m benchmarks.meter``."""
