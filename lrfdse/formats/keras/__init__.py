"""Keras files and SavedModel folders: TensorFlow makes a TensorFlow Lite model of them, and confirms what was read."""
