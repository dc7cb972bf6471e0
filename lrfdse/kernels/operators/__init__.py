"""Operators of whole models as object code: one module a family of operators, around what they share."""
