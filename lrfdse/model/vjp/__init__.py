"""Vector-Jacobian products: the backward pass of a part of a model, as a model of its own."""
