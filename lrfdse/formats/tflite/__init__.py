"""TensorFlow Lite files, read by their own schema and without TensorFlow, into ONNX graphs that LiteRT confirms."""
