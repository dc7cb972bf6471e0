"""From graph to graph."""
