"""Whole plans: predicted, proposed, evaluated, chosen."""
