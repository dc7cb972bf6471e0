"""Contracts: test classes that the author of a plug-in subclasses, one module a kind of plug-in."""
