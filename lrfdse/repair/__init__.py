"""A plan's factors made better as a whole."""
