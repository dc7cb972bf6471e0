"""How ONNX nodes become calls of operators: one module a family, each with a table of rules."""
