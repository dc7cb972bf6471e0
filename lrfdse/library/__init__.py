"""A whole model as a C library without a runtime: its object code, its C interface, and what it costs."""
