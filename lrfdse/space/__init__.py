"""The design space of one layer: bonds, counts, the surrogate front, and the designs of it that are compiled."""
