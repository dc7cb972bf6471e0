"""Boards: ways to run a static program there, and what the program says of the board and of a design's kernels."""
