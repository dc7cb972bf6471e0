"""TensorFlow Lite files made of ONNX graphs: a rule for each operator, one module a family."""
