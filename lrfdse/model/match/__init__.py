"""Which parts of a graph are weight matrices, and why others are not."""
