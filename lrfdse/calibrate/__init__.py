"""A target fitted to what a board measured."""
