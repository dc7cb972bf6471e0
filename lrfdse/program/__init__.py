"""A whole model: from an ONNX graph to calls of operators on flat arrays, fused and laid out, with a memory plan."""
