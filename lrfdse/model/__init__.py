"""ONNX models: their fully-connected layers found and replaced, run on data, and judged."""
