"""Design-space exploration of low-rank factorizations of ONNX models for embedded targets."""

__version__ = "0.1.0"
