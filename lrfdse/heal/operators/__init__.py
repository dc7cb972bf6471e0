"""ONNX's operators in TensorFlow, so that they can be differentiated: one module a family, each a table of rules."""
