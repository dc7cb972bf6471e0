"""What a design is delivered as: models, kernels, listings, the bench program."""
