"""Kernels: a factorized (or dense) layer as one plain C function, register-blocked and vectorized for a target."""
