"""Whole models ahead of time, beside the runtimes that people use."""
