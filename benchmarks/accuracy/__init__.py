"""What compressed models lose without training: ``python -m benchmarks.accuracy``."""
