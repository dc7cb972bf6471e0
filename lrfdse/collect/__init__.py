"""From images, loaders and columns to the data files that explorations read."""
