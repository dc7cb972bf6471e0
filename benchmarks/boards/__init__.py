"""The model meter against published measurements of real boards; see `benchmarks.boards.__main__`."""
