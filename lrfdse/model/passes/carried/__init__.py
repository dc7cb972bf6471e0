"""Products that other operators carry inside: taken out in front of them or behind, and put back, factors and all."""
