"""How each operator of TensorFlow Lite is written in ONNX: one module a family."""
