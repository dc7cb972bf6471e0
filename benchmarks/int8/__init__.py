"""Int8 weights: what they gain and what they lose."""
