"""Passes that give a graph its usual form: what exporters fuse, hide or fold away becomes standard products, exactly."""
