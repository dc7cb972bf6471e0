"""Published measurements of real boards, and what the meter says of the same code."""
