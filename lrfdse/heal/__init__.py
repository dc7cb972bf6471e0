"""Factors trained on data: what follows the compressed layers of a model, differentiated in TensorFlow."""
