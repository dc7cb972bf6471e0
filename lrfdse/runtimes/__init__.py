"""The runtimes that users deploy with, as meters of whole models: LiteRT and onnxruntime, here or on a board."""
