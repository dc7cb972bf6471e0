"""The exploration: the only package that composes all others."""
