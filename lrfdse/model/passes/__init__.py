"""Passes that turn one graph into another."""
