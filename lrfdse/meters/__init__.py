"""Obtaining the latency of kernels."""
