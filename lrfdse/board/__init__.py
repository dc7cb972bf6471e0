"""Boards: a static program that times a design's kernels, its way to a board and back, and targets fitted to it."""
