"""Passes that give a graph its usual form: what exporters fuse or hide becomes standard products, exactly."""
